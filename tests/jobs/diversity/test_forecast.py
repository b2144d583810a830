"""What is forecast of data made up for each outcome."""

import pytest

from jobs.diversity.clips import judge_clips
from jobs.diversity.forecast import MIN_SPEAKERS, forecast, forecasts
from jobs.diversity.summary import summarise

GOOD = {"level": 3.0, "dnsmos_ovrl": 0.3, "speaking_rate": 3.0, "centroid_similarity": 0.02}


@pytest.fixture
def forecast_of():
    def of(clips):
        (summary,) = summarise(judge_clips(clips), ["x"], 0.1)
        return forecast(summary)

    return of


def colours(found):
    return {light.name: light.colour for light in found.lights}


def test_clean_and_diverse(varied, forecast_of):
    found = forecast_of(varied(**GOOD))
    assert (found.outcome, found.because) == ("clean and diverse", ())
    assert set(colours(found).values()) == {"green"}
    measured = {light.name: light.measured for light in found.lights}
    assert measured["clean minutes"] == "12.0 of 12.0 min"
    assert measured["quality beyond texts"] == "excess sd of OVRL 0.28 MOS"


def test_clean_but_all_alike(varied, forecast_of):
    found = forecast_of(varied(level=0.5, dnsmos_ovrl=0.1, speaking_rate=0.4, f0_sd=0.1))
    assert found.outcome == "clean but narrow"
    assert found.because == ("level", "quality beyond texts", "tempo")


def test_clean_but_few(varied, forecast_of):
    found = forecast_of(varied(40, **GOOD))
    assert (found.outcome, found.because) == ("clean but narrow", ("clean minutes",))


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"dnsmos_ovrl": 1.0}, ("cleanliness",)),
        ({"level": 9.0}, ("level", "35% bad clips")),
        ({"centroid_similarity": 0.15}, ("one voice",)),
        ({"dnsmos_bak": 0.8}, ("32% bad clips",)),
    ],
)
def test_dirty(varied, forecast_of, changes, because):
    found = forecast_of(varied(**{**GOOD, **changes}))
    assert found.outcome == "dirty"
    assert set(because) <= set(found.because)


def test_what_differs_may_be_the_noise(varied, forecast_of):
    found = forecast_of(varied(**{**GOOD, "dnsmos_ovrl": 0.5}))
    assert colours(found)["cleanliness"] == "amber"
    assert colours(found)["quality beyond texts"] == "amber"


def test_a_tempo_that_differs_too_much_is_amber(varied, forecast_of):
    assert colours(forecast_of(varied(**{**GOOD, "speaking_rate": 6.0})))["tempo"] == "amber"


def test_what_cannot_be_told_is_no_variety(typical, forecast_of):
    found = forecast_of([typical(duration=590.0)])
    assert found.outcome == "clean but narrow"
    assert colours(found)["level"] is None
    assert colours(found)["tempo"] is None


def test_nothing_measured_is_dirty(typical, forecast_of):
    found = forecast_of([typical(failures=dict.fromkeys(typical().values, "silence"))])
    assert (found.outcome, found.because) == ("dirty", ("100% bad clips",))
    assert colours(found)["cleanliness"] is None


@pytest.mark.parametrize("count", [1, MIN_SPEAKERS - 1, MIN_SPEAKERS])
def test_few_speakers_tell_nothing(varied, forecast_of, count):
    (summary,) = summarise(judge_clips(varied(**GOOD)), ["x"], 0.1)
    found = forecasts([summary] * count)
    assert len(found) == count
    alone = forecast_of(varied(**GOOD))
    assert {each.lights for each in found} == {alone.lights}
    if count < MIN_SPEAKERS:
        said = {(each.outcome, each.because) for each in found}
        assert said == {("unknown", ())}
        many = "is 1 speaker" if count == 1 else "are 9 speakers"
        assert f"there {many}, and fewer than 10 cannot" in found[0].sentence
    else:
        assert found[0] == alone
