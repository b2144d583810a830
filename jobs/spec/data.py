"""The data section of a spec: manifests, preprocessing, split, mixes."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from jobs.problems import nearest
from jobs.spec import EMBEDDED
from jobs.spec.languages import language_tag
from jobs.spec.strict import Language, Strict

GroupKey = Literal["speaker", "language"]
"""What clips are grouped by."""

ClipKey = Literal["audio", "text", "speaker", "language", "ref_audio", "duration", "split"]
"""What a manifest may say of a clip."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ManifestSpec(Strict):
    """One manifest, and defaults for its clips."""

    path: str
    """``embedded``, or a file or folder in one of the layouts of docs/data.md; on this machine or
    under ``s3://``."""
    speaker: Annotated[str, Field(min_length=1)] | None = None
    language: Language | None = None


def _one_or_several(value: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple({"path": each} if isinstance(each, str) else each for each in several)


class SplitSpec(Strict):
    """Which clips are held out, where the manifests do not say it."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the clips of each group, rounded to the nearest whole one."""
    by: GroupKey | None = None
    """Within what the share is taken; null for within everything."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class MixSpec(Strict):
    """How much of an epoch each group of training clips makes up; validation is not touched.

    Either ``shares`` or ``temperature``. No clip is left out of a group that has a share: the group
    that is largest for its share is seen once an epoch, the others are repeated.
    """

    by: GroupKey
    shares: dict[str, Positive] = Field(default_factory=dict)
    """Of the groups' names; they are scaled to sum to 1. A group that is not named is left out."""
    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Shares go as clips ** (1 / temperature): 1 is as they are, the higher the more equal."""

    @field_validator("shares", mode="after")
    @classmethod
    def _name_languages(cls, shares: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if info.data.get("by") != "language":
            return shares
        named = {language_tag(name): share for name, share in shares.items()}
        if len(named) < len(shares):
            raise ValueError("a mix names each language once, got two names of one")
        return named

    @model_validator(mode="after")
    def _check_one_form(self) -> Self:
        if bool(self.shares) == (self.temperature is not None):
            raise ValueError("a mix has shares or a temperature, and not both")
        return self


class DataSpec(Strict):
    """The target's clips and their transcripts, and how they are prepared."""

    manifest: Annotated[
        tuple[ManifestSpec, ...], Field(min_length=1), BeforeValidator(_one_or_several)
    ] = (ManifestSpec(path=EMBEDDED),)
    """One or several; a text is a path."""
    root: str | None = None
    """The folder that audio must lie in; null for that of each manifest."""
    columns: dict[ClipKey, str | Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By key of a clip the column of the manifests that holds it, by its name, or by its number
    from 1 where there is no header; what is not here is found by its name."""
    target: str | None = None
    """The speaker whose voice is wanted, where the clips have several and a prompt names none."""
    consent: Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=500)] | None = None
    """Where the speakers' consent is recorded: a file, an address, a number. Goes into every clip's
    metadata and the model card; it is not opened."""
    synthetic: bool = False
    """Whether the clips are no person's voice, so that there is nobody to consent."""
    tags: Literal["reject", "strip"] = "reject"
    """What becomes of annotations such as ``<laugh>`` in a text."""
    spoken: tuple[str, ...] = ()
    """What in brackets, or between asterisks, is spoken; with ``*`` for any characters."""
    annotations: tuple[str, ...] = ()
    """What there is not, beside what is known to be none."""
    clean: bool = False
    """Whether characters that are not seen, or were broken on the way, are repaired."""
    bad_clips: Literal["refuse", "drop"] = "refuse"
    """Whether a clip that cannot be used ends everything, or is left out and counted."""
    accept: tuple[Literal["text-other", "text-end"], ...] = ()
    """What listening may find in most clips without ending a sweep: somebody has listened."""
    min_seconds: Positive | None = None
    """Of a clip; null is the family's, as below."""
    max_seconds: Positive | None = None
    max_text_tokens: Annotated[int, Field(ge=1)] | None = None
    trailing_silence: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Seconds put after every clip."""
    loudness: Annotated[float, Field(ge=-50, le=-5)] | None = None
    """LUFS (ITU-R BS.1770) that every clip is brought to; null leaves it as it is."""
    language_tag: bool = False
    """Whether ``[km] `` stands before a text of language ``km``, in training and in speech."""
    reference_prefix: bool = False
    """Whether all is read behind a clip of its speaker, in training and in speech."""
    split: SplitSpec = SplitSpec()
    mixes: dict[str, MixSpec] = Field(default_factory=dict)
    """By a name that ``training.mix`` may take."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the manifests."""
        return tuple(each.path for each in self.manifest)

    @property
    def needs_consent(self) -> bool:
        """Whether a record of consent is due and not named. The shipped clips are synthetic."""
        shipped = all(path == EMBEDDED for path in self.paths)
        return not (shipped or self.synthetic or self.consent)

    @property
    def provenance(self) -> str:
        """The consent for the voice, in words for metadata."""
        return f"consent: {self.consent}" if self.consent else "a synthetic voice"

    def mix(self, name: str | None) -> MixSpec | None:
        """The mix of this name; None for none.

        Raises:
            ValueError: there is no such mix.
        """
        if name is None:
            return None
        if name not in self.mixes:
            what = f"a mix must be one of data.mixes, got {name!r}"
            raise ValueError(f"{what}. {nearest(name, self.mixes)}")
        return self.mixes[name]
