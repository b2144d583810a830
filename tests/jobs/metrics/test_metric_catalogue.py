import json
import logging
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.metrics import signal
from jobs.metrics.base import ClipScores, MetricError, score_clip
from jobs.metrics.catalogue import (
    METRICS,
    ScorerUnavailable,
    build_scorers,
    metric_of,
    metric_problems,
)
from jobs.metrics.distillmos import DISTILLMOS_NAMES
from jobs.metrics.dvector import DVECTOR_NAMES
from jobs.metrics.models import package_file
from jobs.metrics.plcmos import plcmos_metrics
from jobs.spec.items import ITEM_METRICS
from jobs.spec.metric import MetricSpec
from jobs.testing.metrics import MetricBattery

OPTIONAL = (*DISTILLMOS_NAMES, *DVECTOR_NAMES)
"""Those of packages of the extra ``real``."""
SHIPPED = [
    name
    for name, of in METRICS.items()
    if not of.options and name not in (*OPTIONAL, *ITEM_METRICS)
]
"""What is measured of clips with what is installed; others need a model that was downloaded."""


def asked(*names):
    return [MetricSpec(name=name) for name in names]


def metric(name):
    return metric_of(MetricSpec(name=name))


class NoWords:
    digest = "0" * 64

    def transcribe(self, audio, rate):
        return []


class Answers:
    """A scorer of one metric that returns, or raises, what it is told."""

    def __init__(self, answer):
        self.metrics = (replace(metric("duration"), name="answer"),)
        self.answer = answer

    def measure(self, clip):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def score(scorers, clip):
    return score_clip(scorers, clip, variant="v", prompt="p", seed=1)


class TestShipped(MetricBattery):
    """Every metric that needs no download, in one go."""

    specs = asked(*SHIPPED)
    recogniser = NoWords()

    def test_versions_are_numbered(self):
        assert (len(METRICS), len(SHIPPED)) == (30, 19)
        assert all(metric(name).version[0] in "123" for name in SHIPPED)

    def test_a_clip_is_resampled_once(self, scorers, clips, monkeypatch):
        calls, resample = [], signal.resample
        counted = lambda *given: calls.append(given) or resample(*given)  # noqa: E731
        monkeypatch.setattr(signal, "resample", counted)
        whole = replace(clips[0], rate=24_000)
        again = replace(clips[0], rate=22_050)
        scored = [score(scorers, clip).values for clip in (whole, again, whole)]
        assert [rate for _, rate, _ in calls] == [24_000, 22_050, 24_000]
        assert scored[0] == scored[2] != scored[1]

    def test_silence_fails_what_needs_speech_and_only_that(self, scorers, speech):
        scores = score(scorers, replace(speech, audio=np.zeros(16_000, dtype=np.float32)))
        assert set(scores.values) == {
            "clipping",
            "duration",
            "end_of_speech_failure",
            "tail_silence",
            "word_error",
            "word_edits",
            "word_count",
        }
        assert scores.values["tail_silence"] == scores.values["duration"]
        assert scores.values["word_error"] == 1.0
        assert set(scores.values) | set(scores.failures) == set(SHIPPED)
        assert all("silence" in why for why in scores.failures.values())


@pytest.mark.parametrize("name", ["dnsmos_p808", "dnsmos_ovrl", "plcmos", "similarity"])
def test_a_version_holds_the_digest_of_the_weights(name):
    package, file = {
        "dnsmos_p808": ("speechmos", "dnsmos_models/model_v8.onnx"),
        "dnsmos_ovrl": ("speechmos", "dnsmos_models/sig_bak_ovr.onnx"),
        "plcmos": ("speechmos", "plcmos_models/plcmos_v2.onnx"),
        "similarity": ("resemblyzer", "pretrained.pt"),
    }[name]
    digest = subprocess.run(
        ["sha256sum", package_file(package, file)], check=True, capture_output=True, text=True
    ).stdout[:12]
    assert f":{digest} " in metric(name).version


def test_metadata_loads_no_inference_library():
    code = (
        "import sys, json\n"
        "from jobs.spec.metric import MetricSpec\n"
        "from jobs.metrics.catalogue import METRICS, ScorerUnavailable, metric_of\n"
        "versions = []\n"
        "for name, source in METRICS.items():\n"
        "    model = {'model': '/none'} if 'model' in source.options else {}\n"
        "    try:\n"
        "        versions.append(metric_of(MetricSpec(name=name, **model)).version)\n"
        "    except ScorerUnavailable:\n"
        f"        assert model or name in {OPTIONAL}\n"
        "heavy = {'torch', 'librosa', 'onnxruntime', 'resemblyzer', 'scipy', 'speechmos'}\n"
        "heavy |= {'transformers'}\n"
        "heavy |= {'google.protobuf', 'pyworld'}\n"
        "print(json.dumps([len(versions), sorted(heavy & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [21, []]


def test_the_docs_tell_of_every_metric():
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    cells = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| `")]
    better = {}
    for _, names, _, direction, *_ in cells:
        named = re.findall("`([a-z0-9_]+)`", names)
        directions = direction.strip().split(", ")
        better |= dict(zip(named, directions * len(named), strict=False))
    assert better == {name: source.directions[name] for name, source in METRICS.items()}


def test_a_scorer_that_cannot_be_loaded_stops_everything(monkeypatch):
    """Dropped, it would leave a sweep judged by fewer metrics than its protocol says."""

    def missing(package, name):
        raise FileNotFoundError(f"metric weights must be installed: no file {name!r}")

    monkeypatch.setattr("jobs.metrics.onnx.package_file", missing)
    with pytest.raises(
        ScorerUnavailable,
        match=r"dnsmos_ovrl, dnsmos_sig, dnsmos_bak cannot be: FileNotFoundError: .*no file "
        r"'dnsmos_models/sig_bak_ovr.onnx'.*; install what is missing",
    ):
        build_scorers(asked("duration", "dnsmos_bak"))


@pytest.mark.parametrize(
    ("metric", "library"),
    [
        ("dnsmos_p808", "onnxruntime"),
        ("dnsmos_p808", "librosa.feature"),
        ("dnsmos_sig", "google.protobuf"),
        ("plcmos", "onnxruntime"),
        ("similarity", "resemblyzer"),
        ("wada_snr", "scipy"),
        ("f0_sd", "pyworld"),
    ],
)
def test_a_missing_library_is_found_before_any_clip(metric, library):
    """In a process of its own: here the libraries are loaded."""
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from jobs.spec.metric import MetricSpec\n"
        "from jobs.metrics.catalogue import build_scorers\n"
        f"sys.modules[{library!r}] = None\n"
        "noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10\n"
        "references = {None: [(noise, 16_000)] * 10}\n"
        f"build_scorers([MetricSpec(name={metric!r})], references)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("jobs.metrics.catalogue.ScorerUnavailable: every metric asked for"), last
    assert metric in last
    assert library in last


def test_metadata_without_weights_names_the_metric(monkeypatch):
    def missing(package, name):
        raise FileNotFoundError("no file")

    monkeypatch.setattr("jobs.metrics.models.package_file", missing)
    plcmos_metrics.cache_clear()
    with pytest.raises(ScorerUnavailable, match="and plcmos cannot be: FileNotFoundError: no file"):
        metric("plcmos")


def test_missing_weights_say_what_to_install():
    with pytest.raises(FileNotFoundError, match=r"no file 'x\.onnx'.*pip install no_such_package"):
        package_file("no_such_package", "x.onnx")


def test_only_what_was_asked_for_is_built():
    scorers = build_scorers(asked("tail_silence", "clipping"))
    assert [[m.name for m in s.metrics] for s in scorers] == [["tail_silence"], ["clipping"]]
    assert len(build_scorers(asked("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"))) == 1


def test_unknown_metrics_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown metric dnsmos_ovr\. Did you mean dnsmos_ovrl"):
        build_scorers(asked("duration", "dnsmos_ovr"))
    with pytest.raises(ValueError, match=r"zzz\. Valid names: choice_accuracy.*word_error"):
        build_scorers(asked("zzz"))


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        (["duration", "level"], []),
        (["level", "level"], [(1, "a metric is named once, got level again")]),
        ([{"name": "level", "model": "x"}], [(0, "level takes no model, got 'x'")]),
        (
            [{"name": "wavlm_similarity", "language": "en"}],
            [(0, "wavlm_similarity takes no language, got 'en'")],
        ),
        (
            [
                {"name": "whisper_word_error", "model": "a/b", "language": "en"},
                {"name": "whisper_word_count", "model": "a/b", "language": "en"},
                {"name": "whisper_character_error", "model": "a/c", "language": "en"},
            ],
            [
                (
                    2,
                    "whisper_word_error and whisper_character_error come from one scorer and take "
                    "the same options, got model 'a/b', language 'en' and model 'a/c', "
                    "language 'en'",
                )
            ],
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(entries, problems):
    wanted = [MetricSpec.model_validate(entry) for entry in entries]
    assert [(at, what) for at, what, _ in metric_problems(wanted)] == problems
    if problems:
        with pytest.raises(ValueError, match=problems[0][1][:30]):
            build_scorers(wanted)


def test_what_a_metric_needs_is_named():
    with pytest.raises(ValueError, match="need a recogniser"):
        build_scorers(asked("word_count"))
    with pytest.raises(ValueError, match="at least 10 reference clips"):
        build_scorers(asked("similarity"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (MetricError("too odd"), "too odd"),
        ({"answer": math.nan}, "not a finite number: nan"),
        ({"answer": -math.inf}, "not a finite number: -inf"),
        ({}, "the scorer gave no value"),
    ],
)
def test_a_scorer_that_fails_is_recorded(clips, answer, reason):
    assert score([Answers(answer)], clips[0]).failures == {"answer": reason}


def test_a_scorer_that_crashes_costs_its_own_score_and_leaves_a_traceback(clips, caplog):
    with caplog.at_level(logging.ERROR):
        scores = score([Answers(KeyError("gone")), *build_scorers(asked("duration"))], clips[0])
    assert scores.failures == {"answer": "KeyError: 'gone'"}
    assert scores.values == {"duration": pytest.approx(len(clips[0].audio) / clips[0].rate)}
    (record,) = caplog.records
    assert record.exc_info


def test_scores_survive_json():
    scores = ClipScores("r8-e2@0.5", "a-01", 7, {"duration": 0.1}, {"level": 'no "speech"'})
    assert ClipScores.from_json(scores.to_json()) == scores
    assert json.loads(scores.to_json())["duration"] == 0.1
