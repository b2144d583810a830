"""The scorer over a stand-in of the package; over the real one where it is installed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.metrics import distillmos
from jobs.metrics.base import MetricError
from jobs.metrics.catalogue import ScorerUnavailable, build_scorers, metric_of
from jobs.metrics.distillmos import DISTILLMOS_WEIGHTS, MOST_STEP, WINDOW, DistillMos
from jobs.metrics.signal import RATE
from jobs.spec.metric import MetricSpec
from tests.jobs.metrics import stand_ins

NAME = "distillmos"


@pytest.fixture
def uncached(monkeypatch):
    """Metadata that other tests do not see, and no package of that name from another one."""
    monkeypatch.setattr(distillmos, "distillmos_metrics", distillmos.distillmos_metrics.__wrapped__)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield
    sys.modules.pop(NAME, None)


@pytest.fixture
def scorer(tmp_path, monkeypatch, uncached):
    pinned = stand_ins.install(tmp_path, DISTILLMOS_WEIGHTS, stand_ins.DISTILLMOS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(distillmos, "DISTILLMOS_WEIGHTS", pinned)
    return DistillMos()


def loud(*seconds):
    """1 s of full scale for each ``True``, 1 s of silence for each ``False``."""
    return np.concatenate([np.full(RATE, float(on), dtype=np.float32) for on in seconds])


def test_what_it_prints_is_not_seen(scorer, capsys):
    assert capsys.readouterr().out == ""
    assert scorer.metrics[0].name == NAME
    assert "xls-r-sqa==0.1.0" in scorer.metrics[0].version


def test_a_short_clip_is_followed_by_silence(scorer):
    assert scorer.opinion(loud(True)) == pytest.approx(1 + 4 * RATE / WINDOW)


@pytest.mark.parametrize("more", [0, 1, MOST_STEP, MOST_STEP + 1, 10 * MOST_STEP])
def test_windows_lie_as_the_package_puts_them(scorer, more, monkeypatch):
    """Copied from ``ConvTransformerSQAModel.forward`` of distillmos 0.9.1."""
    audio = np.random.default_rng(0).random(WINDOW + more).astype(np.float32) / 4
    x = torch.from_numpy(audio)[None]
    over = x.shape[1] - WINDOW
    starts = list(np.linspace(0, 1, int(np.ceil(over / MOST_STEP)) + 1))
    theirs = torch.cat([x[:, int(c * over) : int(c * over) + WINDOW] for c in starts])
    seen = []
    network = scorer._network
    monkeypatch.setattr(scorer, "_network", lambda of: seen.append(of) or network(of))
    opinion = scorer.opinion(audio)
    assert torch.equal(torch.cat(seen), theirs)
    assert opinion == pytest.approx(float(torch.cat([network(t[None]) for t in theirs]).mean()))


def test_a_clip_is_measured_at_any_level_and_rate(scorer, clips):
    value = scorer.measure(clips[0])[NAME]
    assert 1 < value < 5
    quiet = replace(clips[0], audio=clips[0].audio * np.float32(0.03))
    assert scorer.measure(quiet)[NAME] == pytest.approx(value, abs=1e-3)
    with pytest.raises(MetricError, match="silence"):
        scorer.measure(replace(clips[0], audio=np.zeros(RATE, dtype=np.float32)))


def test_it_is_missing_or_another_with_the_command(tmp_path, monkeypatch, uncached):
    spec = MetricSpec(name=NAME)

    def fails(match):
        with pytest.raises(ScorerUnavailable, match=match):
            metric_of(spec)

    monkeypatch.setattr(distillmos, "DISTILLMOS_WEIGHTS", replace(DISTILLMOS_WEIGHTS, package="no"))
    fails(r"distillmos==0.9.1 must be installed, and is not; run `pip install 'voxsweep\[real\]'`")
    monkeypatch.syspath_prepend(tmp_path)
    stand_ins.install(tmp_path, DISTILLMOS_WEIGHTS, version="0.8.0")
    monkeypatch.setattr(distillmos, "DISTILLMOS_WEIGHTS", DISTILLMOS_WEIGHTS)
    fails("must be installed, got 0.8.0; run")


def test_another_file_of_the_same_version(tmp_path, monkeypatch, uncached):
    stand_ins.install(tmp_path, DISTILLMOS_WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScorerUnavailable, match=r"SHA-256 b18b3ac60227\.\.\., got .*force-re"):
        build_scorers([MetricSpec(name=NAME)])


@pytest.mark.weights
def test_the_real_network(clips, noisy):
    try:
        DISTILLMOS_WEIGHTS.path()
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(str(error))
    scorer = DistillMos()
    spoken = (clips[0], noisy(clips[0], 15.0), noisy(clips[0], 5.0))
    values = [scorer.measure(of)[NAME] for of in spoken]
    assert values[0] > values[1] > values[2]
    whole = sys.modules[NAME].ConvTransformerSQAModel().eval()
    audio = np.tile(clips[0].audio, 2)
    with torch.no_grad():
        theirs = float(whole(torch.from_numpy(audio)[None]))
    assert scorer.opinion(audio) == pytest.approx(theirs, abs=1e-4)
