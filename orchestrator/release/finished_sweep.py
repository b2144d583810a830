"""A sweep that came to its verdict, read back from the ledger; and any variant of it as a voice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from jobs.families.registry import FAMILIES, speech_rate
from jobs.problems import InputError, Problem, nearest
from jobs.spec.data import DataSpec
from jobs.spec.trial import BASE_VARIANT, Variant
from jobs.speech.voice_files import OTHERS_FOLDER, VoiceFacts, VoiceFiles, write_voice
from orchestrator.ledger import PROTOCOL_FILE, SPEC_FILE, VARIANTS_FILE, VERDICT_FILE, Ledger
from orchestrator.scores.from_ledger import stored_hosting
from orchestrator.scores.variants import read_variants
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import (
    of_this_version,
    require_spec,
    stored_protocol,
    stored_verdict,
)
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import VariantInfo

_RUN = "Run the sweep to its verdict first: voxsweep run SPEC."
_MADE_BY = ("voxsweep", "torch", "transformers", "peft")


@dataclass(frozen=True)
class FinishedSweep:
    """What a sweep was asked, the rule by which it judged, and its verdict."""

    ledger: Ledger
    spec: SweepSpec
    protocol: Protocol
    verdict: Verdict
    variants: dict[str, VariantInfo]
    """All of the search that were scored, by id; the base among them."""

    def variant(self, name: str | None) -> Variant:
        """The variant of this id, or the verdict's for None.

        Raises:
            InputError: there is no such variant, or the verdict chose none.
        """
        where = self.ledger.path(VERDICT_FILE)
        if name is None:
            if self.verdict.variant is None:
                what = f"the verdict must have a winner, but is {self.verdict.verdict}"
                raise InputError([Problem(where, what, "Name a variant with --variant.")])
            name = self.verdict.variant
        known = [other for other in self.variants if other != BASE_VARIANT]
        if name not in known:
            what = f"a variant must be one that the sweep scored, got {name!r}"
            raise InputError([Problem(where, what, nearest(name, known))])
        info = self.variants[name]
        return Variant.model_validate(info, from_attributes=True)

    def facts(
        self, variant: Variant, language: str | None = None, speaker: str | None = None
    ) -> VoiceFacts:
        """What ``voice.json`` says of a variant.

        ``language`` and ``speaker`` are those of a text that does not say it; by default what all
        of the sweep's prompts say, where they agree.
        """
        assert variant.trial is not None
        hosting = stored_hosting(self.ledger, variant.id)
        spec, data = self.spec, self.spec.data
        trial = self.ledger.trial(variant.trial).spec
        rules = FAMILIES[spec.family].rules
        prompts = (*self.protocol.prompts, *self.protocol.confirmation)
        languages = tuple(dict.fromkeys(p.language for p in prompts if p.language is not None))
        speakers = tuple(dict.fromkeys(p.speaker for p in prompts if p.speaker is not None))
        only_language = languages[0] if len(languages) == 1 else None
        return VoiceFacts(
            sweep=spec.name,
            **variant.model_dump(),
            training=trial.training,
            host=spec.host(),
            base_digest=trial.base_digest,
            encoder_digest=self.protocol.family_digests["encoder_digest"],
            decoding=self.protocol.decoding.at(variant.own_decoding),
            gguf=hosting.recommended if hosting else None,
            sample_rate=speech_rate(spec.host()),
            longest=data.max_seconds or rules.max_seconds,
            max_text_tokens=data.max_text_tokens or rules.max_text_tokens,
            language=language or only_language,
            speaker=speaker or data.target or (speakers[0] if len(speakers) == 1 else None),
            languages=languages,
            speakers=speakers,
            provenance=_provenance(data, self.ledger.path(SPEC_FILE)),
            protocol=self.protocol.digest(),
            versions={name: version(name) for name in _MADE_BY},
        )

    def write_voice(
        self, directory: Path, facts: VoiceFacts, others: Sequence[VoiceFacts] = ()
    ) -> VoiceFiles:
        """Make ``directory`` of the checkpoint that ``facts`` are of, and of those of ``others``.

        Raises:
            InputError: the sweep does not have the checkpoint any more.
        """
        key = self.ledger.checkpoint(facts.trial, facts.epoch)
        try:
            checkpoint = self.ledger.storage.fetch(key)
        except FileNotFoundError as error:
            step = "Restore the checkpoint, or run the sweep again."
            raise InputError(
                [Problem(key, f"the checkpoint must be there: {error}", step)]
            ) from None
        made = write_voice(directory, facts, checkpoint)
        beside = {
            each.variant.id: self.write_voice(directory / OTHERS_FOLDER / each.variant.id, each)
            for each in others
        }
        return replace(made, others=beside)


def read_finished(ledger: Ledger) -> FinishedSweep:
    """The sweep of ``ledger``.

    Raises:
        InputError: it is not there, or has not come to its verdict.
    """
    spec, variants = require_spec(ledger), ledger.read_text(VARIANTS_FILE)
    with of_this_version(ledger):
        protocol, verdict = stored_protocol(ledger), stored_verdict(ledger)
    if protocol is None or verdict is None or variants is None:
        found = {PROTOCOL_FILE: protocol, VERDICT_FILE: verdict, VARIANTS_FILE: variants}
        missing = ", ".join(name for name, document in found.items() if document is None)
        what = f"the sweep must have come to its verdict, but has no {missing}"
        raise InputError([Problem(ledger.sweep, what, _RUN)])
    known = read_variants(variants)
    of_search = {name: info for name, info in known.items() if info.replicate_of is None}
    return FinishedSweep(ledger, spec, protocol, verdict, of_search)


def _provenance(data: DataSpec, where: str) -> str:
    """Raises InputError for a sweep of before there was a record of consent, on recordings."""
    if data.needs_consent:
        what = "data.consent must say where the speakers' consent is recorded, but there is none"
        step = "Add it to this file, or data.synthetic: true where the clips are no person's voice."
        raise InputError([Problem(where, what, step)])
    return data.provenance
