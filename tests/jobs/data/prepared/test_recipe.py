"""Loudness, rate and silence, in that order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.audio.files import resample
from jobs.data.prepared.recipe import Preprocessing
from jobs.families.description import DataRules
from jobs.spec.data import DataSpec

RATE = 48_000
CEILING = 10 ** (-1 / 20)


def tone(amplitude: float, seconds: float = 2.0, rate: int = RATE) -> NDArray[np.float32]:
    """997 Hz: ITU-R BS.1770-4 gives it -3.01 LKFS at amplitude 1, in one channel."""
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * 997 * time)).astype(np.float32)


def test_nothing_is_done_that_was_not_asked():
    audio = tone(0.3)
    same, loudness = Preprocessing(RATE, 0.0, None).apply(audio, RATE)
    np.testing.assert_array_equal(same, audio)
    assert loudness is None


def test_silence_is_whole_samples_at_the_rate_of_the_base():
    audio = tone(0.3)
    longer, _ = Preprocessing(24_000, 0.12345, None).apply(audio, RATE)
    recorded = resample(audio, RATE, 24_000)
    np.testing.assert_array_equal(longer[: len(recorded)], recorded)
    assert len(longer) == len(recorded) + 2963  # 2962.8
    assert not longer[len(recorded) :].any()
    assert longer.dtype == np.float32


@pytest.mark.parametrize("amplitude", [0.01, 0.3])
def test_a_loudness_is_reached(amplitude: float):
    audio, loudness = Preprocessing(RATE, 0.0, -23.0).apply(tone(amplitude), RATE)
    assert loudness == pytest.approx(-23.0)
    # EBU Tech 3341 lets a meter be off by 0.1 LU.
    assert 20 * np.log10(np.max(np.abs(audio))) == pytest.approx(-23.0 + 3.01, abs=0.1)


def test_a_gain_stops_where_it_would_clip():
    """Quiet but for one knock: by its loudness it should be 20 dB louder than it can be."""
    audio = tone(0.03)
    audio[1000] = 0.9
    louder, loudness = Preprocessing(RATE, 0.0, -16.0).apply(audio, RATE)
    assert np.max(np.abs(louder)) == pytest.approx(CEILING)
    np.testing.assert_allclose(louder, audio * (CEILING / 0.9), rtol=1e-5)
    assert loudness is not None
    assert loudness < -30


def test_a_knock_of_full_scale_is_brought_below_it_only_if_loudness_is_asked():
    audio = tone(1.0)
    assert np.max(np.abs(Preprocessing(RATE, 0.0, None).apply(audio, RATE)[0])) == 1.0
    quieter, loudness = Preprocessing(RATE, 0.0, -5.0).apply(audio, RATE)
    assert np.max(np.abs(quieter)) <= CEILING
    assert loudness == pytest.approx(-5.0)


@pytest.mark.parametrize(
    ("audio", "told"),
    [(tone(0.3, 0.3), "over 0.4 s, it has 0.300"), (tone(1e-5), "above -70 LUFS")],
    ids=["short", "silent"],
)
def test_without_sound_there_is_no_loudness(audio: NDArray[np.float32], told: str):
    with pytest.raises(ValueError, match=told):
        Preprocessing(RATE, 0.0, -23.0).apply(audio, RATE)
    Preprocessing(RATE, 0.0, None).apply(audio, RATE)


def test_the_family_says_what_the_spec_does_not():
    rules = DataRules(trailing_silence=1.0)
    assert Preprocessing.of(DataSpec(), rules, RATE) == Preprocessing(RATE, 1.0, None)
    asked = DataSpec(trailing_silence=0.0, loudness=-23.0)
    assert Preprocessing.of(asked, rules, RATE) == Preprocessing(RATE, 0.0, -23.0)


def test_the_recipe_has_every_option_and_version():
    plain = Preprocessing(RATE, 0.0, None).recipe()
    assert plain["meter"] is None
    assert str(plain["resampler"]).startswith("soxr-")
    loud = Preprocessing(RATE, 0.0, -23.0).recipe()
    assert str(loud["meter"]).startswith("pyloudnorm-")
    others = [
        Preprocessing(16_000, 0.0, None).recipe(),
        Preprocessing(RATE, 0.5, None).recipe(),
        loud,
    ]
    assert plain not in others
