"""The power of a rule by hand, and by the rule itself."""

import numpy as np
import pytest

from jobs.metrics.base import ClipScores
from orchestrator.verdict.power import Spread, expected_spreads, weak_rules
from orchestrator.verdict.protocol import Constraint, Prompt
from orchestrator.verdict.stats import PairedBootstrap


def test_the_base_tells_the_spread_and_a_unit_is_assumed_where_it_has_no_scores():
    base = [ClipScores("base", f"p{i}", seed, {"w": i / 10}) for i in range(3) for seed in (0, 1)]
    units = {"w": "share", "x": "share", "y": "Hz"}
    spreads = expected_spreads(units, base)
    assert {name: round(spread.value, 6) for name, spread in spreads.items()} == {
        "w": 0.1,
        "x": 0.1,
    }
    assert spreads["w"].source != spreads["x"].source


def texts(count, languages=(None,)):
    return [
        Prompt(id=f"c{i}", text=f"Fresh text {i}.", language=languages[i % len(languages)])
        for i in range(count)
    ]


def weak(make_protocol, spread=0.1, prompts=96, **changes):
    rule = make_protocol(
        constraints=(Constraint(metric="speaker_similarity", margin=0.02),), **changes
    )
    spreads = {"speaker_similarity": Spread(spread, "as told")}
    return list(weak_rules(rule, texts(prompts), spreads))


def test_a_margin_that_the_prompts_cannot_show_is_told_with_what_would_do(make_protocol):
    (told,) = weak(make_protocol)
    # 0.02 / (0.1 / sqrt 96) - 1.645 = 0.315; (2.486 * 0.1 / 0.02) ** 2 = 154.6.
    assert "margin of 0.02 by 96 prompts of set B in 62% of sweeps" in told
    assert "spread by 0.1, as told; 155 prompts or a margin of 0.026 give 80%" in told


def test_enough_prompts_are_no_news(make_protocol):
    assert weak(make_protocol, prompts=155) == []
    assert len(weak(make_protocol, prompts=154)) == 1
    assert weak(make_protocol, spread=0.0) == []


def test_no_margin_at_all_has_no_number_of_prompts(make_protocol):
    rule = make_protocol(constraints=(Constraint(metric="speaker_similarity", margin=0.0),))
    (told,) = weak_rules(rule, texts(96), {"speaker_similarity": Spread(0.1, "as told")})
    assert "in 5% of sweeps" in told
    assert "; a margin of 0.026 gives 80%" in told


def test_the_smallest_effect_has_a_power_too(make_protocol):
    rule = make_protocol(constraints=(), min_effect=0.05, finalists=1)
    (told,) = weak_rules(rule, texts(96), {"p808": Spread(0.25, "as told")})
    assert "min_effect 0.05 is told from none by 96 prompts of set B in 61% of sweeps" in told
    assert "162 prompts give 80%" in told
    assert list(weak_rules(rule, texts(162), {"p808": Spread(0.25, "as told")})) == []


def test_languages_share_the_level_with_the_whole_and_the_shortest_is_told(make_protocol):
    rule = make_protocol(constraints=(), min_effect=0.05, finalists=1)
    spread = {"p808": Spread(0.25, "as told")}
    whole, km = weak_rules(rule, texts(200, ("ko", "ko", "ko", "km")), spread)
    # Half of 0.05 on all prompts; an eighth for the own finalist of one of two languages.
    # pi/3 * ((1.960 + 0.842) * 5) ** 2 = 205.5 and pi/3 * ((2.498 + 0.842) * 5) ** 2 = 292.0.
    assert "by 200 prompts of set B in 79% of sweeps" in whole
    assert "; 206 prompts give 80%" in whole
    assert "by the 50 prompts of language km, by its own finalist, in 13% of sweeps" in km
    assert "; 292 prompts give 80%" in km
    (km,) = weak_rules(rule, texts(28, ("ko", "ko", "ko", "km")), {"p808": Spread(0.01, "told")})
    # Of seven prompts no p is below 2^-7 = 0.0078, and an eighth of 0.05 is 0.00625.
    assert "by the 7 prompts of language km, by its own finalist, in 0% of sweeps" in km
    assert "; 8 prompts give 80%" in km


@pytest.mark.parametrize(("margin", "share"), [(0.02, 0.62), (0.01, 0.25)])
def test_bounds_keep_a_margin_as_often_as_is_told(margin, share):
    draws, bootstrap = np.random.default_rng(3), PairedBootstrap(96, 400, 0.95, 0)
    bounds = [bootstrap.upper(draws.normal(0, 0.1, 96)) for _ in range(400)]
    assert np.mean([bound <= margin for bound in bounds]) == pytest.approx(share, abs=0.06)
