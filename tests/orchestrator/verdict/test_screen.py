"""The objective that a search maximises, and whom set A sends to confirmation."""

import math

import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.protocol import Constraint, MetricVersion
from orchestrator.verdict.screen import choose_finalists, choose_shortlist, shortlisted
from orchestrator.verdict.table import ScoreTable


def test_every_feasible_variant_ranks_above_every_infeasible_one(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(
        protocol,
        good={"p808": [3.3, 3.4]},
        terrible={"p808": [1.0]},
        slightly_off={"p808": [5.0], "speaker_similarity": [0.87]},
        other_voice={"p808": [4.0], "speaker_similarity": [0.5]},
        silent={"p808": [math.nan]},
    )
    ranked = ["good", "terrible", "slightly_off", "other_voice", "silent"]
    values = [Comparison(table, protocol).assess(name).objective for name in ranked]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert all(math.isfinite(value) for value in values)
    assert Comparison(table, protocol).assess(BASE_VARIANT).objective == 0
    assert choose_finalists(Comparison(table, protocol)).all == ["good"]


def test_a_lower_is_better_primary_gains_by_falling(make_table, make_protocol):
    protocol = make_protocol(primary="tail_silence", constraints=())
    table = make_table(protocol, long={"tail_silence": [1.0]})
    assert Comparison(table, protocol).assess("long").objective == pytest.approx(-0.8)


def test_a_constraint_is_held_by_its_bound_not_by_its_mean(make_table, make_protocol):
    table = make_table(
        make_protocol(),
        steady={"speaker_similarity": [0.89]},
        unsteady={"speaker_similarity": [0.98, 0.80]},
    )
    assert Comparison(table, make_protocol()).assess("steady").objective == 0
    assert Comparison(table, make_protocol()).assess("unsteady").objective < 0


def test_a_metric_without_a_better_side_is_held_both_ways(make_table, make_protocol):
    protocol = make_protocol(constraints=(Constraint(metric="rate_ratio", margin=0.1),))
    table = make_table(
        protocol,
        faster={"speaking_rate": [13.8]},
        slower={"speaking_rate": [10.2]},
        as_fast={"speaking_rate": [12.6]},
    )
    assert choose_finalists(Comparison(table, protocol)).all == ["as_fast"]


def test_the_objective_leaves_out_what_only_finalists_have(make_table, make_protocol):
    word_error = MetricVersion(
        name="word_error", version="1", unit="share", direction="lower", low=0, high=1
    )
    protocol = make_protocol(
        metrics=(*make_protocol().metrics, word_error),
        finalist_metrics=("word_error",),
        constraints=(Constraint(metric="word_error", margin=0.1),),
    )
    table = make_table(protocol, v={"p808": [5.0]})
    assert Comparison(table, protocol).assess("v").objective == pytest.approx(2.0)


def test_the_shortlist_is_the_best_third_and_the_best_of_each_rank(
    base, info, speak, make_protocol
):
    protocol = make_protocol(shortlist_after=2)
    ranks = {"a": 8, "b": 8, "c": 16, "d": 16, "e": 32, "silent": 64}
    clips = speak(BASE_VARIANT)[:2]
    for place, name in enumerate(ranks):
        clips += speak(name, p808=[3.6 - place / 10] if name != "silent" else [math.nan])[:2]
    variants = [base, *(info(name, rank=rank) for name, rank in ranks.items())]
    first = protocol.screening()
    screen = Comparison(ScoreTable.build(variants, clips, first), first)
    # Two are a third of five that were heard; c and e are the best of their ranks.
    assert choose_shortlist(screen, protocol) == ["a", "b", "c", "e"]
    assert choose_shortlist(screen, make_protocol(shortlist_after=4)) == []
    assert choose_shortlist(screen, make_protocol()) == []


def test_half_of_the_shortlist_is_chosen_by_gain_alone(base, info, speak, make_protocol):
    """Two prompts do not show whether a margin is kept; the most harmful is shown all the same."""
    protocol = make_protocol(shortlist_after=2)
    said = {
        "held": {"p808": [3.2]},
        "held_too": {"p808": [3.1]},
        "unsteady": {"p808": [3.6], "speaker_similarity": [0.93, 0.80]},
        "dull": {"p808": [3.0]},
        "other_voice": {"p808": [4.0], "speaker_similarity": [0.5]},
    }
    variants = [base, *(info(name) for name in said)]
    clips = [c for name, of in said.items() for c in speak(name, **of)[:2]]
    first = protocol.screening()
    table = ScoreTable.build(variants, [*speak(BASE_VARIANT)[:2], *clips], first)
    screen = Comparison(table, first)
    assert not screen.is_plausible("unsteady")
    assert not screen.is_harmful("unsteady")
    assert choose_shortlist(screen, protocol) == ["held", "unsteady"]


def in_turn(prompts, languages=("en", "km")):
    return tuple(
        prompt.model_copy(update={"language": languages[place % len(languages)]})
        for place, prompt in enumerate(prompts)
    )


@pytest.fixture
def bilingual(make_protocol):
    """Four prompts of set A and twenty of set B, in English and Khmer in turn."""
    plain = make_protocol()
    fresh = make_protocol(length=10).confirmation
    changes = {"prompts": in_turn(plain.prompts), "confirmation": in_turn(fresh), "finalists": 1}
    return plain.model_copy(update=changes)


KHMER = {
    "even": {"p808": [3.3]},
    "khmer": {"p808": [2.0, 3.8]},
    "broken": {"p808": [2.0, 4.0], "speaker_similarity": [0.9, 0.5]},
}


def test_each_language_of_set_b_has_its_best_variant_of_set_a(make_table, bilingual):
    found = choose_finalists(Comparison(make_table(bilingual, **KHMER), bilingual))
    assert found.sweep == ("even",)
    assert found.own == {("language", "en"): "even", ("language", "km"): "khmer"}
    assert found.all == ["even", "khmer"]


def test_set_a_may_name_no_language_and_then_there_is_no_own_finalist(make_table, bilingual):
    protocol = bilingual.model_copy(update={"prompts": in_turn(bilingual.prompts, [None])})
    found = choose_finalists(Comparison(make_table(protocol, **KHMER), protocol))
    assert (found.sweep, found.own) == (("even",), {})


def test_the_best_of_each_language_is_on_the_shortlist(make_table, bilingual):
    protocol = bilingual.model_copy(update={"shortlist_after": 2})
    said = {f"even{i}": {"p808": [3.3 + i / 100]} for i in range(5)}
    screen = Comparison(make_table(protocol.screening(), **said, **KHMER), protocol.screening())
    # All have rank 16. Three are a third of eight; "broken" is shown to break a rule in Khmer.
    assert choose_shortlist(screen, protocol) == ["even4", "even3", "even2", "khmer"]
    assert shortlisted(8, ranks=1, groups=2) == 6
    assert shortlisted(4, ranks=1, groups=2) == 4


def test_finalists_are_the_best_trials_without_those_that_are_clearly_worse(
    make_table, make_protocol
):
    near = {"p808": [3.5, 3.3]}
    table = make_table(
        make_protocol(), best={"p808": [3.3, 3.52]}, near=near, nearer=near, far={"p808": [3.2]}
    )
    assert choose_finalists(Comparison(table, make_protocol(finalists=3))).all == [
        "best",
        "near",
        "nearer",
    ]
    assert choose_finalists(Comparison(table, make_protocol(finalists=2))).all == ["best", "near"]


def test_whom_set_b_has_tested_before_stays_a_finalist(make_table, make_protocol):
    table = make_table(make_protocol(), best={"p808": [3.5]}, far={"p808": [3.2]})
    for before, finalists in ((("far",), ["best", "far"]), (("best",), ["best"])):
        protocol = make_protocol(finalists=1, confirmed_before=before)
        assert choose_finalists(Comparison(table, protocol)).all == finalists


def test_a_trial_sends_its_earliest_equal_epoch_and_the_middle_of_its_plateau(
    base, info, speak, make_protocol
):
    protocol = make_protocol()
    gains = {  # by epoch and scale
        (1, 1.0): [3.1],
        (2, 0.5): [3.2],
        (2, 0.7): [3.5, 3.4],
        (2, 1.0): [3.4, 3.52],
        (2, 1.3): [3.52, 3.4],
        (3, 1.0): [3.47, 3.5],
    }
    variants, clips = [base], speak(BASE_VARIANT)
    for (epoch, scale), p808 in gains.items():
        name = f"e{epoch}-s{scale}"
        variants.append(info(name, trial="t", epoch=epoch, lora_scale=scale))
        clips += speak(name, p808=p808)
    table = ScoreTable.build(variants, clips, protocol)
    assert choose_finalists(Comparison(table, protocol)).all == ["e2-s1.0"]
