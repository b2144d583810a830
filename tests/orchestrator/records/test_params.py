"""Speakers' data under names that MLflow takes."""

from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_param_name

from jobs.diversity.clips import FEATURES, ClipFeatures, judge_clips
from jobs.diversity.forecast import forecast
from jobs.diversity.summary import summarise
from orchestrator.records.params import SPEAKERS, data_params
from orchestrator.report.report_input import Speaker


def speakers(*names: str) -> list[Speaker]:
    """Each of two clips of a minute, equal but for their quality."""
    values = dict.fromkeys(FEATURES, 3.0) | {"duration": 60.0, "dnsmos_bak": 4.0}
    clips = [
        ClipFeatures(name, f"text {i}", {**values, "dnsmos_ovrl": 3.0 + i})
        for name in names
        for i in range(2)
    ]
    return [Speaker(s, forecast(s)) for s in summarise(judge_clips(clips), ["text"], 0.1)]


def test_they_read_well():
    params = data_params(speakers("slt"))
    assert params["data.slt.minutes"] == "2"
    assert params["data.slt.clips"] == "2"
    assert params["data.slt.forecast"] == "dirty"  # a level of 3 says nothing, a SNR of 3 dB does
    assert params["data.slt.dnsmos_ovrl_sd"] == "0.7071"
    assert params["data.slt.dnsmos_ovrl_sd_excess"] == "0.7"
    assert params["data.slt.bigram_coverage"] == "1"
    assert "data.slt.effective_rank" not in params  # of two clips it is not known


def test_any_speaker_has_a_name_of_their_own():
    hostile = '"><script>alert(1)</script>'
    names = ["../..", hostile, "a/b", "a b", "김", "x" * 500]
    params = data_params(speakers(*names))
    assert len({key.split(".")[1] for key in params}) == len(names)
    for key in params:
        _validate_param_name(key)
        assert len(key) <= MAX_ENTITY_KEY_LENGTH


def test_a_crowd_is_cut():
    params = data_params(speakers(*(f"s{i}" for i in range(SPEAKERS + 5))))
    assert len({key.split(".")[1] for key in params}) == SPEAKERS
