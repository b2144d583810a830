"""From measured clips to what the page, the sweep's folder and MLflow are told."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from cluster.storage.base import LocalStorage
from jobs.audio.files import write_flac
from jobs.data.clips import ManifestRow, TargetClip
from jobs.diversity import measure
from jobs.diversity.clips import FEATURES, ClipFeatures
from jobs.diversity.summary import QUALITY_FLOOR
from jobs.metrics.base import ClipScores
from jobs.metrics.catalogue import ScorerUnavailable
from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import DATA_FILE, Ledger
from orchestrator.report.report_input import LONGEST_PLAYED
from orchestrator.verdict.table import ScoreTable, VariantInfo
from orchestrator.workers.data_report import data_report, measure_data, quality_floor
from tests.orchestrator.report.conftest import PROTOCOL, metric

RATE = 24_000


@pytest.fixture
def clips(tmp_path) -> list[TargetClip]:
    """A held-out clip first, so that places in the manifest and among the training clips differ."""
    for i, seconds in enumerate((1, 20, 2)):
        time = np.arange(seconds * RATE) / RATE
        write_flac(tmp_path / f"{i}.flac", np.sin(440 * time).astype("f4"), RATE)
    splits = ("validation", "train", "train")
    return [
        TargetClip(
            ManifestRow(
                where="m:1",
                audio=str(tmp_path / f"{i}.flac"),
                text=f"text {i}",
                split=split,
                speaker="ada",
            ),
            pcm=str(i),
            rate=RATE,
            seconds=1.0,
        )
        for i, split in enumerate(splits)
    ]


@pytest.fixture
def fake_measure(monkeypatch) -> list[list[str]]:
    """Measuring gives made-up numbers and keeps a list of what it was asked for."""
    asked = []

    def measured(clips):
        rows = [clip.row for clip in clips]
        asked.append([row.text for row in rows])
        return [
            ClipFeatures("ada", row.text, {**dict.fromkeys(FEATURES, 4.0), "dnsmos_ovrl": 3.0 - i})
            for i, row in enumerate(rows)
        ]

    monkeypatch.setattr(measure, "measure_clips", measured)
    monkeypatch.setattr("os.nice", lambda by: 0)
    return asked


def table(scores, failed=0) -> ScoreTable:
    protocol = PROTOCOL.model_copy(
        update={"metrics": (*PROTOCOL.metrics, metric("dnsmos_ovrl", "higher", 1, 5, "MOS"))}
    )
    clips = [
        ClipScores(BASE_VARIANT, prompt.id, 11, {"dnsmos_ovrl": score} if i >= failed else {})
        for i, (prompt, score) in enumerate(zip(protocol.prompts, scores, strict=True))
    ]
    return ScoreTable.build([VariantInfo.unlisted(BASE_VARIANT)], clips, protocol)


SCORES = (3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7)


def test_the_floor_is_the_bases_own():
    assert quality_floor(table(SCORES)) == pytest.approx(np.std(SCORES, ddof=1))
    assert quality_floor(table(SCORES, failed=1)) == QUALITY_FLOOR  # of too few clips
    unscored = replace(table(SCORES), values={BASE_VARIANT: {}})
    assert quality_floor(unscored) == QUALITY_FLOOR


def test_a_second_sweep_measures_nothing(tmp_path, clips, fake_measure):
    storage = LocalStorage(tmp_path / "st")
    key = measure_data(clips, storage.url)
    assert fake_measure == [["text 1", "text 2"]]
    assert measure_data(clips, storage.url) == key
    reports = [
        data_report(Ledger(storage, sweep), key, clips, ["text"], table(SCORES))
        for sweep in ("one", "two")
    ]
    assert reports[0] == reports[1]
    assert len(fake_measure) == 1
    assert key.startswith("data/diversity-")


def test_what_is_told_and_kept(tmp_path, clips, fake_measure):
    ledger = Ledger(LocalStorage(tmp_path / "st"), "one")
    key = measure_data(clips, ledger.storage.url)
    data = data_report(ledger, key, clips, ["text"], table(SCORES))
    assert [clip.name for clip in data.worst] == ["2.flac", "1.flac"]
    assert data.speakers[0].summary.quality_floor == pytest.approx(np.std(SCORES, ddof=1))
    kept = json.loads(ledger.read_text(DATA_FILE))
    assert kept["features"] == key
    (speaker,) = kept["speakers"]
    assert speaker["summary"]["features"]["dnsmos_ovrl"]["median"] == 2.5
    assert speaker["forecast"]["outcome"] == "unknown"  # one speaker shows nothing


def test_a_sweep_ends_without_what_could_not_be_measured(monkeypatch):
    from ray.exceptions import RayTaskError, WorkerCrashedError

    from orchestrator.sweep import Sweep

    notes = []
    sweep = Sweep.__new__(Sweep)
    sweep._progress = SimpleNamespace(note=notes.append)
    missing = RayTaskError("measure_data", "Traceback", ScorerUnavailable("no speechmos"))
    for error, reason in (
        (missing, "ScorerUnavailable: no speechmos"),
        (WorkerCrashedError(), "WorkerCrashedError: The worker died unexpectedly"),
    ):

        def fail(reference, error=error):
            raise error

        monkeypatch.setattr("orchestrator.sweep.ray.get", fail)
        assert sweep._data_report(None, table(SCORES)).startswith(reason)
        assert reason in notes[-1]


def test_the_beginning_of_a_long_clip_is_played(tmp_path, clips, fake_measure):
    ledger = Ledger(LocalStorage(tmp_path / "st"), "one")
    key = measure_data(clips, ledger.storage.url)
    Path(clips[2].row.audio).unlink()
    gone, long = data_report(ledger, key, clips, ["text"], table(SCORES)).worst
    assert gone.flac is None
    heard, rate = soundfile.read(io.BytesIO(long.flac))
    assert (len(heard) / rate, rate) == (LONGEST_PLAYED, 16_000)
