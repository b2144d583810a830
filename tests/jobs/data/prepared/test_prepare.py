"""Data is encoded once, and kept under the name of what it follows from."""

import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio, resample, write_flac
from jobs.clips import PreparedClip
from jobs.data.clips import TargetClip
from jobs.data.prepared.files import read_prepared, reference_recordings
from jobs.data.prepared.keys import data_key
from jobs.data.prepared.prepare import Preparation, prepare
from jobs.data.prepared.recipe import Recipe
from jobs.families.base import FrozenBase
from jobs.families.description import DataRules
from jobs.problems import InputError
from jobs.spec.data import DataSpec
from tests.embedded_voice import embedded_clips, target_clips
from tests.jobs.data.builder import CLIPS

ROOT = Path(__file__).parents[4]
TRAIN, VALIDATION = 3, 2
AS_IT_IS = DataSpec()
Start = Callable[..., "subprocess.Popen[str]"]


class Listening:
    """A base that keeps a list of what it was given to encode, and encodes the same sound once."""

    _encoded: ClassVar[dict[tuple[bytes, str], Any]] = {}

    def __init__(self, base: FrozenBase, **changes: Any) -> None:
        self._base = base
        self.__dict__ |= changes
        self.heard: list[NDArray[np.float32]] = []
        self.encoded: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def encode(
        self, audio: NDArray[np.float32], text: str
    ) -> tuple[NDArray[np.int64], tuple[int, ...] | None]:
        self.heard.append(audio)
        self.encoded.append(text)
        sound = (audio.tobytes(), text)
        if sound not in self._encoded:
            self._encoded[sound] = self._base.encode(audio, text)
        return self._encoded[sound]


@pytest.fixture
def base(embedded_base: FrozenBase) -> Listening:
    return Listening(embedded_base)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture(scope="module")
def target() -> list[TargetClip]:
    return embedded_clips()


@pytest.fixture(scope="module")
def clips(target: list[TargetClip]) -> list[TargetClip]:
    """Splits alternate, so that no index is right by luck."""
    train = [clip for clip in target if clip.row.split == "train"][:TRAIN]
    validation = [clip for clip in target if clip.row.split == "validation"][:VALIDATION]
    return [train[0], validation[0], train[1], validation[1], train[2]]


def with_row(clip: TargetClip, **changes: Any) -> TargetClip:
    return replace(clip, row=replace(clip.row, **changes))


def read(storage: LocalStorage, prepared: Preparation) -> Sequence[PreparedClip]:
    return read_prepared(storage.fetch(data_key(prepared.digest)))


def same_codes(one: PreparedClip, other: PreparedClip) -> bool:
    return np.array_equal(one.codes, other.codes) and one.word_starts == other.word_starts


class TestOnce:
    def test_clips_are_encoded_once(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        told: list[tuple[int, int]] = []
        first = prepare(clips, base, storage, AS_IT_IS, lambda *now: told.append(now))
        assert base.encoded == [clip.row.text for clip in clips]
        assert (first.clips, first.encoded, first.reused) == (5, 5, 0)
        assert told == [(n, 5) for n in range(1, 6)]
        base.encoded.clear()
        assert prepare(clips, base, storage, AS_IT_IS) == replace(first, encoded=0)
        assert base.encoded == []

    def test_a_data_set_that_grows_has_its_new_clips_encoded(
        self, target: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        before = read(storage, prepare(target[:8], base, storage, AS_IT_IS))
        base.encoded.clear()
        told: list[tuple[int, int]] = []
        # Two are new, two are gone, and they come in another order and another split.
        wanted = [with_row(clip, split="train") for clip in target[9:1:-1]]
        after = prepare(wanted, base, storage, AS_IT_IS, lambda *now: told.append(now))
        assert sorted(base.encoded) == sorted(clip.row.text for clip in target[8:10])
        assert (after.encoded, after.reused) == (2, 6)
        assert told == [(1, 2), (2, 2)]
        fresh = read(storage, prepare(wanted, base, LocalStorage(storage.root / "x"), AS_IT_IS))
        assert [clip.text for clip in read(storage, after)] == [clip.row.text for clip in wanted]
        again = read(storage, after)
        assert all(map(same_codes, again, fresh))
        assert all(map(same_codes, reversed(again[2:]), before[2:]))

    def test_another_way_of_preparing_shares_nothing(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        first = prepare(clips, base, storage, AS_IT_IS)
        other = prepare(clips, base, storage, DataSpec(trailing_silence=0.2))
        assert other.encoded == len(clips)
        assert data_key(first.digest).split("/")[:2] != data_key(other.digest).split("/")[:2]

    def test_the_same_sound_under_two_names_is_encoded_once(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage, tmp_path: Path
    ):
        copied = Path(shutil.copy(clips[0].row.audio, tmp_path / "copied.flac"))
        twice = [*clips, with_row(clips[0], audio=str(copied))]
        done = prepare(twice, base, storage, AS_IT_IS)
        assert (done.encoded, done.reused) == (5, 1)
        first, *_, last = read(storage, done)
        assert first.key == last.key
        assert same_codes(first, last)


class TestWhatIsKept:
    def test_clips_say_what_the_manifest_says(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        told = [with_row(clip, language="en") for clip in clips]
        prepared = read(storage, prepare(told, base, storage, AS_IT_IS))
        assert [(c.text, c.split, c.speaker, c.language) for c in prepared] == [
            (c.row.text, c.row.split, c.row.speaker, c.row.language) for c in told
        ]
        for clip, made in zip(told, prepared, strict=True):
            audio, rate = read_audio(clip.row.audio)
            codes, starts = base.encode(resample(audio, rate, base.sample_rate), clip.row.text)
            np.testing.assert_array_equal(made.codes, codes)
            assert made.word_starts == starts
            assert starts is not None
            assert len(starts) == len(clip.row.text.split())
            assert made.reference is None
            assert made.loudness is None
        assert base.examples(prepared)

    def test_recordings_are_those_of_the_validation_clips_as_they_were(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        """What is done to a clip before it is learned is not done to what it is compared with."""
        data = DataSpec(trailing_silence=0.5, loudness=-30.0)
        bob = [*clips[:-2], with_row(clips[-2], speaker="bob"), clips[-1]]
        base.__dict__["voice_of"] = lambda speaker: None
        done = prepare(bob, base, storage, data)
        found = reference_recordings(storage.fetch(data_key(done.digest)))
        assert {speaker: len(paths) for speaker, paths in found.items()} == {"slt": 1, "bob": 1}
        for clip in bob[1], bob[3]:
            (path,) = found[clip.row.speaker]
            audio, rate = read_audio(path)
            assert rate == base.sample_rate
            recorded = resample(*read_audio(clip.row.audio), rate)
            np.testing.assert_allclose(audio, recorded, atol=2**-15)

    def test_a_recording_at_another_rate_is_resampled(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage, tmp_path: Path
    ):
        audio, rate = read_audio(clips[1].row.audio)
        path = tmp_path / "high.flac"
        write_flac(path, 0.5 * resample(audio, rate, 2 * rate), 2 * rate)
        (high,) = target_clips([replace(clips[1].row, audio=str(path))])
        done = prepare([clips[0], high], base, storage, AS_IT_IS)
        (recording,) = reference_recordings(storage.fetch(data_key(done.digest)))["slt"]
        heard, at = read_audio(recording)
        assert at == base.sample_rate
        assert len(heard) == pytest.approx(len(audio) * base.sample_rate / rate, abs=2)

    def test_a_recording_of_full_scale_survives_the_resampler(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage, tmp_path: Path
    ):
        audio, rate = read_audio(clips[1].row.audio)
        path = tmp_path / "loud.flac"
        high = resample(audio, rate, 3 * rate)
        write_flac(path, np.clip(high / np.max(np.abs(high)) * 4, -1, 1), 3 * rate)
        (loud,) = target_clips([replace(clips[1].row, audio=str(path))])
        done = prepare([clips[0], loud], base, storage, AS_IT_IS)
        (recording,) = reference_recordings(storage.fetch(data_key(done.digest)))["slt"]
        assert np.max(np.abs(read_audio(recording)[0])) == pytest.approx(1.0, abs=1e-4)

    def test_silence_and_loudness_are_heard_by_the_encoder(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        rules = DataRules(trailing_silence=0.25)
        silent = Listening(base._base, rules=rules)
        data = DataSpec(loudness=-30.0)
        prepared = read(storage, prepare(clips, silent, storage, data))
        assert [clip.loudness for clip in prepared] == [pytest.approx(-30.0)] * len(clips)
        for clip, heard in zip(clips, silent.heard, strict=True):
            samples = round(clip.seconds * clip.rate) * base.sample_rate / clip.rate
            assert len(heard) == pytest.approx(samples + 0.25 * base.sample_rate, abs=2)
            assert not heard[-base.sample_rate // 4 :].any()

    def test_each_is_encoded_by_itself(
        self, clips: list[TargetClip], embedded_base: FrozenBase, storage: LocalStorage
    ):
        together = read(storage, prepare(clips, embedded_base, storage, AS_IT_IS))
        alone = LocalStorage(storage.root / "alone")
        (made,) = read(alone, prepare(clips[2:3], embedded_base, alone, AS_IT_IS))
        assert same_codes(made, together[2])


class TestReferences:
    @pytest.fixture
    def base(self, embedded_base: FrozenBase) -> Listening:
        rules = DataRules(conditions_on_reference=True)
        return Listening(embedded_base, rules=rules, voice_of=lambda speaker: None)

    def test_a_speaker_is_told_by_what_the_manifest_names_first(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        named = [
            clips[0],
            with_row(clips[1], ref_audio=clips[3].row.audio),
            with_row(clips[2], ref_audio=clips[4].row.audio),
        ]
        prepared = read(storage, prepare(named, base, storage, AS_IT_IS))
        (reference,) = {clip.reference for clip in prepared}
        assert reference is not None
        recorded = resample(*read_audio(clips[3].row.audio), base.sample_rate)
        np.testing.assert_allclose(read_audio(reference)[0], recorded, atol=2**-15)

    def test_else_by_the_training_clip_nearest_to_six_seconds(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        lengths = (3.0, 6.0, 8.5, 6.1, 4.5)  # the second and the fourth are held out
        lasting = [replace(c, seconds=s) for c, s in zip(clips, lengths, strict=True)]
        lasting[4] = with_row(lasting[4], speaker="bob")
        prepared = read(storage, prepare(lasting, base, storage, AS_IT_IS))
        for number, chosen in ((0, 2), (4, 4)):
            reference = prepared[number].reference
            assert reference is not None
            recorded = resample(*read_audio(clips[chosen].row.audio), base.sample_rate)
            np.testing.assert_allclose(read_audio(reference)[0], recorded, atol=2**-15)
        assert prepared[0].reference == prepared[3].reference != prepared[4].reference

    def test_one_that_cannot_be_read_is_told(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        lost = [
            with_row(clips[0], ref_audio="/no/such.wav"),
            with_row(clips[1], ref_audio="/nor/such.wav", speaker="bob"),
        ]
        with pytest.raises(InputError) as error:
            prepare(lost, base, storage, AS_IT_IS)
        assert ["such.wav" in problem.what for problem in error.value.problems] == [True, True]
        assert [problem.where for problem in error.value.problems] == [c.row.where for c in lost]


class TestPrefixes:
    """``data.reference_prefix``: clips that the others of their speaker are read behind."""

    DATA = DataSpec(reference_prefix=True)

    @pytest.fixture
    def base(self, embedded_base: FrozenBase) -> Listening:
        return Listening(embedded_base, voice_of=lambda speaker: None)

    def marked(self, clips: list[TargetClip], base: Listening, storage: LocalStorage) -> list[int]:
        prepared = read(storage, prepare(clips, base, storage, self.DATA))
        return [at for at, clip in enumerate(prepared) if clip.is_reference]

    def test_one_of_each_speaker_is_marked_and_makes_another_dataset(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        training = [clip for clip in clips if clip.row.split == "train"]
        lasting = [replace(c, seconds=s) for c, s in zip(training, (3.0, 6.5, 9.0), strict=True)]
        assert self.marked(lasting, base, storage) == [1]
        named = [lasting[0], with_row(lasting[1], ref_audio=lasting[2].row.audio), lasting[2]]
        assert self.marked(named, base, storage) == [2]
        digests = {
            prepare(some, base, storage, data).digest
            for some, data in ((lasting, self.DATA), (named, self.DATA), (lasting, AS_IT_IS))
        }
        assert len(digests) == 3

    def test_what_cannot_be_one_is_told_together(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        training = [clip for clip in clips if clip.row.split == "train"]
        held_out = next(clip for clip in clips if clip.row.split == "validation")
        wrong = [
            with_row(training[0], ref_audio=held_out.row.audio),
            training[1],
            with_row(training[0], speaker="bob"),
            *(replace(with_row(clip, speaker="eve"), seconds=15.1) for clip in training),
            with_row(held_out, speaker="ida"),
        ]
        with pytest.raises(InputError) as error:
            prepare(wrong, base, storage, self.DATA)
        told = [problem.what for problem in error.value.problems]
        for what, part in zip(
            told,
            ("must be a training clip", "bob has 1", "15 s, got 15.1 s", "ida has 0"),
            strict=True,
        ):
            assert part in what
        assert stored(storage) == []


class TestRefusals:
    def test_data_that_cannot_be_encoded_leaves_nothing(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        wrong = [clips[0], with_row(clips[1], text="parsnip"), with_row(clips[2], text="leek")]
        with pytest.raises(InputError) as error:
            prepare(wrong, base, storage, AS_IT_IS)
        assert [p.where for p in error.value.problems] == [c.row.where for c in wrong[1:]]
        assert "parsnip" in error.value.problems[0].what
        assert stored(storage) == []

    @pytest.mark.parametrize("fails", ["encoder", "disk"])
    def test_a_failure_half_way_leaves_nothing(
        self,
        clips: list[TargetClip],
        base: Listening,
        storage: LocalStorage,
        monkeypatch: pytest.MonkeyPatch,
        fails: str,
    ):
        full = OSError(errno.ENOSPC, "No space left on device")
        with monkeypatch.context() as patch:
            if fails == "disk":
                patch.setattr("jobs.data.prepared.prepare.write_recording", raising(full, after=1))
            else:
                encode = raising(full, after=3, otherwise=base.encode)
                base.__dict__["encode"] = encode
            with pytest.raises(OSError, match="No space left"):
                prepare(clips, base, storage, AS_IT_IS)
        assert stored(storage) == []
        base.__dict__.pop("encode", None)
        assert prepare(clips, base, storage, AS_IT_IS).encoded == len(clips)

    def test_what_has_changed_since_it_was_looked_into(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage, tmp_path: Path
    ):
        path = Path(shutil.copy(clips[0].row.audio, tmp_path / "clip.flac"))
        changing = [with_row(clips[0], audio=str(path)), *clips[1:]]
        shutil.copy(clips[2].row.audio, path)
        with pytest.raises(InputError, match="has changed since"):
            prepare(changing, base, storage, AS_IT_IS)
        path.unlink()
        with pytest.raises(InputError, match="must exist"):
            prepare(changing, base, storage, AS_IT_IS)
        assert stored(storage) == []

    def test_two_speakers_who_would_be_one_voice(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        crowd = [with_row(clips[0], speaker=None), *clips[1:3], with_row(clips[3], speaker="bob")]
        with pytest.raises(InputError, match="'slt' and 'bob' would both be asked for as 'awb'"):
            prepare(crowd, base, storage, AS_IT_IS)
        assert base.encoded == []
        known = [*clips[:3], with_row(clips[3], speaker="rms"), with_row(clips[4], speaker="kal16")]
        assert prepare(known, base, storage, AS_IT_IS).encoded == 5

    def test_a_tag_needs_languages(
        self, clips: list[TargetClip], base: Listening, storage: LocalStorage
    ):
        told = [with_row(clip, language="en") for clip in clips]
        tag = DataSpec(language_tag=True)
        with pytest.raises(InputError, match="needs a language for every clip, but 1 have none"):
            prepare([*told[:-1], clips[-1]], base, storage, tag)
        assert base.encoded == []
        prepare(told, base, storage, tag)
        # The tag is read by the model and not said by the speaker.
        assert base.encoded == [clip.row.text for clip in clips]


def raising(error: Exception, after: int, otherwise: Any = lambda *_: None) -> Any:
    calls: list[None] = []

    def call(*arguments: object) -> object:
        calls.append(None)
        if len(calls) > after:
            raise error
        return otherwise(*arguments)

    return call


def stored(storage: LocalStorage) -> list[str]:
    """Every file under the data folder, but for the locks."""
    root = storage.root / "data"
    return [str(p) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"]


class TestDigests:
    @pytest.fixture
    def recipe(self, embedded_base: FrozenBase) -> Recipe:
        return Recipe.of(embedded_base, AS_IT_IS)

    def test_a_clip_is_its_sound(
        self, recipe: Recipe, embedded_base: FrozenBase, clips: list[TargetClip], tmp_path: Path
    ):
        clip = clips[0]
        key = recipe.clip_key(clip)
        audio, rate = read_audio(clip.row.audio)
        wav = tmp_path / "copy.wav"
        soundfile.write(wav, np.column_stack([audio, audio]), rate, subtype="FLOAT")
        (copied,) = target_clips([replace(clip.row, audio=str(wav), speaker="ann", where="x:1")])
        assert recipe.clip_key(copied) == key
        assert recipe.clip_key(with_row(clip, split="validation", language="km")) == key
        others = [
            recipe.clip_key(clips[1]),
            recipe.clip_key(with_row(clip, text="nine")),
            *(
                Recipe.of(base, data).clip_key(clip)
                for base, data in (
                    (embedded_base, DataSpec(trailing_silence=1.0)),
                    (embedded_base, DataSpec(loudness=-23.0)),
                    (Listening(embedded_base, encoder_digest="another"), AS_IT_IS),
                    (Listening(embedded_base, sample_rate=24_000), AS_IT_IS),
                    (Listening(embedded_base, rules=DataRules(trailing_silence=0.5)), AS_IT_IS),
                )
            ),
        ]
        assert len({key, *others}) == 8

    def test_a_text_counts_where_it_is_aligned(
        self, embedded_base: FrozenBase, clips: list[TargetClip]
    ):
        recipe = Recipe.of(Listening(embedded_base, aligns=False), AS_IT_IS)
        assert recipe.clip_key(with_row(clips[0], text="nine")) == recipe.clip_key(clips[0])

    def test_a_data_set_is_all_that_is_learned_from_it(
        self, recipe: Recipe, clips: list[TargetClip]
    ):
        def digest(
            of: list[TargetClip], references: dict[str | None, str] | None = None, tag: bool = False
        ) -> str:
            return recipe.data_digest(of, references or {}, language_tag=tag)

        first = digest(clips)
        assert digest([with_row(clips[0], where="other:9", duration=1.0), *clips[1:]]) == first
        others = [
            digest(clips[:-1]),
            digest([clips[1], clips[0], *clips[2:]]),
            digest(clips, {None: "a"}),
            digest(clips, {"slt": "a"}),
            digest(clips, tag=True),
            *(
                digest([with_row(clips[0], **change), *clips[1:]])
                for change in (
                    {"text": "nine"},
                    {"split": "validation"},
                    {"speaker": "ann"},
                    {"language": "km"},
                )
            ),
        ]
        assert len({first, *others}) == 10
        assert {len(each) for each in (first, *others)} == {64}
        assert {data_key(each).split("/")[1] for each in (first, *others)} == {first[:16]}

    def test_defaults_that_are_written_are_defaults(self, embedded_base: FrozenBase):
        assert (
            Recipe.of(embedded_base, DataSpec(trailing_silence=0.0)).digest
            == Recipe.of(embedded_base, AS_IT_IS).digest
        )


class TestSeveralProcesses:
    """Trials and nodes that start at once, as processes of their own."""

    @pytest.fixture
    def marks(self, tmp_path: Path) -> Path:
        folder = tmp_path / "marks"
        folder.mkdir()
        return folder

    @pytest.fixture
    def start(self, storage: LocalStorage, marks: Path) -> Iterator[Start]:
        started: list[subprocess.Popen[str]] = []

        def builder(*arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.jobs.data.builder", storage.url, str(marks)]
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            started.append(process)
            return process

        yield builder
        for process in started:
            process.kill()
            process.communicate()

    def test_of_several_that_start_at_once_one_encodes(
        self, start: Start, storage: LocalStorage, marks: Path
    ):
        builders = [start() for _ in range(4)]
        assert [says(builder) for builder in builders] == ["ready"] * 4
        for builder in builders:
            go(builder)
        assert sorted(says(builder) for builder in builders) == ["0", "0", "0", str(CLIPS)]
        assert [builder.wait() for builder in builders] == [0] * 4
        assert len(list(marks.iterdir())) == CLIPS
        (recipe,) = storage.children("data")
        (data,) = storage.children(f"data/{recipe}")
        assert len(read_prepared(storage.fetch(f"data/{recipe}/{data}"))) == CLIPS

    def test_one_that_is_killed_leaves_nothing_and_the_next_one_builds(
        self, start: Start, storage: LocalStorage, marks: Path
    ):
        first, second = start("3"), start()
        assert [says(first), says(second)] == ["ready"] * 2
        go(first)
        assert says(first) == "staying"  # in the middle, with the lock
        go(second)
        assert len(list(marks.iterdir())) == 3
        first.send_signal(signal.SIGKILL)
        assert says(second) == str(CLIPS)
        assert len(list(marks.iterdir())) == 3 + CLIPS
        (recipe,) = storage.children("data")
        (data,) = storage.children(f"data/{recipe}")
        folder = storage.root / "data" / recipe
        assert sorted(path.name for path in folder.iterdir()) == [f".{data}.lock", data]
        assert read_prepared(storage.fetch(f"data/{recipe}/{data}"))[0].codes.shape == (1,)


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
