"""Listening tests on paper, simulated ones without a better system, and what they confirm."""

from dataclasses import replace
from math import erfc

import numpy as np
import pytest
from _panels import WINNER, pending_verdict, protocol_of

from benchmarks.panels import World
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.panel_stats import (
    krippendorff_alpha,
    pooled_wilcoxon,
    two_way_interval,
)
from orchestrator.verdict.listening.ratings import AXES, Rating, Ratings
from orchestrator.verdict.outcome import Verdict

GAP = np.nan


def rows_of(scores):
    """Long rows from {(rater, sentence, system): (naturalness, prosody, pronunciation)}."""
    return [
        Rating(*key, axis, score)
        for key, three in scores.items()
        for axis, score in zip(AXES, three, strict=True)
    ]


ROWS = rows_of(
    {
        ("ann", "s1", "base"): (3, 3, 3),
        ("ann", "s2", "base"): (4, 3, 2),
        ("bob", "s1", "base"): (2, 2, 5),
        ("ann", "s1", "tuned"): (4, 5, 3),
        ("ann", "s2", "tuned"): (4, 4, 4),
        ("bob", "s1", "tuned"): (3, 3, 3),
        ("bob", "s2", "tuned"): (5, 5, 5),
        ("bob", "s2", "other"): (1, 1, 1),
    }
)


@pytest.fixture
def ratings():
    return Ratings.build(ROWS)


def test_the_order_of_rows_does_not_matter(ratings):
    again = Ratings.build(ROWS[::-1])
    assert ratings.raters == again.raters == ("ann", "bob")
    assert ratings.sentences == again.sentences == ("s1", "s2")
    assert ratings.systems == again.systems == ("base", "other", "tuned")
    np.testing.assert_array_equal(ratings.scores, again.scores)
    np.testing.assert_array_equal(ratings.scores[0, 1, 0], (4, 3, 2))
    assert np.isnan(ratings.scores[1, 1, 0]).all()


def test_mos_is_the_mean_over_axes_then_raters_and_sentences(ratings):
    assert ratings.mos("base") == pytest.approx(3)
    assert ratings.mos("tuned") == pytest.approx(4)


def test_differences_are_paired_by_rater_and_sentence(ratings):
    np.testing.assert_array_equal(ratings.differences("tuned", "base"), [[1, 1], [0, GAP]])


def test_systems_that_no_rater_heard_both_are_not_compared(ratings):
    with pytest.raises(ValueError, match="got no such rating of 'other' and 'base'"):
        ratings.differences("other", "base")


def test_an_unknown_system_is_named(ratings):
    with pytest.raises(ValueError, match="got 'tunde': choose one of base, other, tuned"):
        ratings.mos("tunde")


def test_every_problem_is_told_at_once():
    first, second, *others = ROWS
    rows = [replace(first, score=6), first, replace(second, axis="melody"), *others]
    rows.append(replace(others[-1], score=2.5, sentence="s1"))
    with pytest.raises(ValueError, match="score") as error:
        Ratings.build(rows)
    ann = "rater 'ann', sentence 's1', system 'base'"
    bob = "rater 'bob', sentence 's1', system 'other'"
    once = "a rating has one score for each axis"
    assert [problem.rpartition(":")[0] for problem in str(error.value).splitlines()] == [
        f"a score is a whole number from 1 to 5, got 6 for naturalness at {ann}",
        f"an axis is one of {', '.join(AXES)}, got 'melody' at {ann}",
        f"a score is a whole number from 1 to 5, got 2.5 for pronunciation at {bob}",
        f"{once}, got 2 for naturalness at {ann}",
        f"{once}, got 0 for prosody at {ann}",
        f"{once}, got 0 for naturalness at {bob}",
        f"{once}, got 0 for prosody at {bob}",
    ]


def test_no_ratings_are_no_listening_test():
    with pytest.raises(ValueError, match="got none"):
        Ratings.build([])


def test_the_signed_rank_test_by_hand():
    # The smaller rank sum is 4; 7 of the 16 sets of ranks 1 to 4 sum to no more.
    assert pooled_wilcoxon(np.array([[1.0, 2.0], [3.0, -4.0]])) == pytest.approx(14 / 16)


def test_pairs_without_a_difference_or_a_partner_are_dropped():
    pairs = np.array([[1.0, 0.0, 2.0], [3.0, -4.0, GAP]])
    assert pooled_wilcoxon(pairs) == pytest.approx(14 / 16)
    assert pooled_wilcoxon(np.zeros((5, 20))) == 1


def test_equal_differences_of_means_tie_whatever_their_last_bits():
    thirds = np.array([x / 3 - (x - 1) / 3 for x in (4, 5, 8, 11, 14)] + [4 / 3 - 5 / 3])
    assert len(set(np.abs(thirds))) > 1
    # One minus among six equal ranks: at most one minus in 7 of the 64 patterns of signs.
    assert pooled_wilcoxon(thirds) == pytest.approx(14 / 64)


def test_a_hundred_pairs_are_tested_with_the_normal_approximation():
    # Ranks 1 to 100 with every fourth one negative: W- = 4 * (1 + ... + 25) = 1300.
    differences = np.arange(1.0, 101) * np.where(np.arange(1, 101) % 4 == 0, -1, 1)
    z = (1300 - 100 * 101 / 4) / np.sqrt(100 * 101 * 201 / 24)
    two_tails = erfc(-z / np.sqrt(2))
    assert pooled_wilcoxon(differences.reshape(5, 20)) == pytest.approx(two_tails, rel=1e-9)


def test_an_interval_is_the_same_for_the_same_seed_only():
    differences = np.random.default_rng(0).normal(0.2, 0.5, (5, 20))
    first, again, other = (two_way_interval(differences, seed, 500) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.mean == other.mean == pytest.approx(differences.mean())
    assert first.n == 100


def test_a_constant_difference_has_no_spread():
    found = two_way_interval(np.array([[0.1, 0.1], [0.1, GAP]]), 0, 100)
    assert (found.low, found.mean, found.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert found.n == 3


@pytest.mark.parametrize("whose", ["raters", "sentences"])
def test_the_two_way_interval_knows_that_pairs_share_a_rater_and_a_sentence(whose):
    # Two raters of opposite taste, alike on 20 sentences: a quarter of resamples holds one twice.
    differences = np.repeat([[-1.0], [1.0]], 20, axis=1)
    if whose == "sentences":
        differences = differences.T
    two_way = two_way_interval(differences, 0, 1000)
    assert (two_way.low, two_way.mean, two_way.high) == (-1, 0, 1)


def test_the_two_way_interval_equals_one_drawn_pair_by_pair():
    rng = np.random.default_rng(4)
    differences = rng.normal(0.2, 0.5, (6, 8)) + rng.normal(0, 0.4, (6, 1))
    differences[rng.random((6, 8)) < 0.3] = GAP
    means = [
        np.nanmean(differences[np.ix_(rng.integers(6, size=6), rng.integers(8, size=8))])
        for _ in range(8000)
    ]
    interval = two_way_interval(differences, 0, 8000)
    low, high = np.quantile(means, (0.025, 0.975))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)
    assert high - low > 0.6
    assert interval.n == np.isfinite(differences).sum()


def test_resamples_without_a_pair_are_left_out():
    # Of 16 resamples 5 have the mean 0, 4 have 1/2, 5 have 1 and 2 have none: 0 reaches up to the
    # quantile 5 / 14, but only up to 5 / 16 if those without a pair counted as something between.
    differences = np.array([[0.0, GAP, GAP], [GAP, 1.0, GAP]])
    interval = two_way_interval(differences, 0, 20_000, confidence=1 - 2 * 0.335)
    assert (interval.low, interval.mean, interval.high, interval.n) == (0, 0.5, 1, 2)


@pytest.mark.parametrize("differences", [[[1.0, 2.0], [GAP, GAP]], [[1.0, GAP], [2.0, GAP]]])
def test_one_rater_or_one_sentence_tells_nothing_of_others(differences):
    with pytest.raises(ValueError, match="at least 2 raters and 2 sentences, got"):
        two_way_interval(np.array(differences), 0, 100)


def test_under_the_null_only_the_two_way_interval_keeps_its_promise():
    # 5 raters x 20 sentences; sd of a rater's taste for a system 0.3, of how well a system does on
    # a sentence 0.25, of a score 0.7, which are the differences' sds up to one common factor.
    runs, rng = 500, np.random.default_rng(0)
    rejected = covered = 0
    for seed in range(runs):
        differences = (
            rng.normal(0, 0.3, (5, 1)) + rng.normal(0, 0.25, (1, 20)) + rng.normal(0, 0.7, (5, 20))
        )
        rejected += pooled_wilcoxon(differences) < 0.05
        covered += two_way_interval(differences, seed, 500).includes_zero
    assert rejected / runs > 0.15
    assert covered / runs >= 0.9


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": 4 observers, 12 units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
)


def test_alpha_is_krippendorffs():
    assert krippendorff_alpha(OBSERVERS) == pytest.approx(0.815, abs=0.0005)


def test_alpha_of_perfect_and_of_opposite_raters():
    assert krippendorff_alpha([[1, 2, 5, GAP], [1, 2, 5, 4]]) == pytest.approx(1)
    # Four coincidences, all of 1 with 2, where chance has 2 * 2 * 2 of 4 * 3: 1 - 3 * 4 / 8.
    assert krippendorff_alpha([[1, 2], [2, 1]]) == pytest.approx(-0.5)


@pytest.mark.parametrize("values", [[[3, 3], [3, 3]], [[1, GAP], [GAP, 2]]])
def test_alpha_is_undefined_without_variation_or_without_a_pair(values):
    assert krippendorff_alpha(values) is None


def test_agreement_is_over_the_sentences_as_each_system_spoke_them(ratings):
    # Both heard s1 of base, s1 and s2 of tuned. Overall 3 3, 4 3, 4 5. Mean ranks of 3, 4, 5 are
    # 1.5, 4, 5.5: squared differences are 2 (0 + 6.25 + 2.25) in coincidences and
    # 2 (3*2*6.25 + 3*1*16 + 2*1*2.25) by chance.
    assert ratings.agreement() == pytest.approx(1 - 5 * 17 / 180)


GOOD = {"p808": [3.3, 3.4, 3.35, 3.45]}


@pytest.fixture
def pending(make_verdict, info, speak):
    return make_verdict([info("good")], [*speak(BASE_VARIANT), *speak("good", **GOOD)])


def rated(gain, raters=8, sentences=20, spread=0.0, of="c", system="good"):
    """Ratings of base and ``system``; every ``1 / gain``-th sentence is a point better."""
    rng = np.random.default_rng(0)
    rows = []
    for rater in range(raters):
        for sentence in range(sentences):
            base = rng.integers(2, 5)
            step = np.sign(gain) * (rng.random() < abs(gain))
            step += rng.choice([-1, 1]) if rng.random() < spread else 0
            for name, score in ((BASE_VARIANT, base), (system, base + step)):
                key = (f"{of}-r{rater}", f"{of}{sentence}", name)
                rows += [Rating(*key, axis, int(np.clip(score, 1, 5))) for axis in AXES]
    return rows


@pytest.mark.parametrize(
    ("gain", "outcome", "variant"),
    [
        (0.5, "PROMOTE", "good"),
        (0.02, "DO-NOT-FINE-TUNE", None),
        (-0.3, "REGRESSION", None),
    ],
)
def test_enough_listeners_decide(pending, make_protocol, gain, outcome, variant):
    verdict = apply_listening_test(pending, Ratings.build(rated(gain)), make_protocol())
    assert (verdict.verdict, verdict.variant) == (outcome, variant)
    (panel,) = verdict.listening
    assert panel.result.difference.mean == pytest.approx(gain, abs=0.12)
    assert (panel.raters, panel.sentences, panel.excluded, panel.turns_on) == (8, 20, (), ())
    assert "8 listeners over 20 sentences" in verdict.sentence
    assert Verdict.from_json(verdict.to_json()) == verdict
    if variant is None:
        assert verdict.runner_up == "good"
        assert f"The metrics said: {pending.sentence}" in verdict.sentence
    else:
        assert "once listeners confirm it" not in verdict.sentence


@pytest.mark.parametrize(("raters", "sentences"), [(7, 20), (8, 19)])
def test_too_few_leave_it_pending(pending, make_protocol, raters, sentences):
    verdict = apply_listening_test(
        pending, Ratings.build(rated(0.5, raters, sentences)), make_protocol()
    )
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "good")
    assert verdict.sentence.startswith(pending.sentence)
    assert "8 listeners and 20 sentences decide" in verdict.sentence


def test_listeners_who_disagree_leave_it_pending(pending, make_protocol):
    verdict = apply_listening_test(pending, Ratings.build(rated(0.08, spread=0.9)), make_protocol())
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    assert "decides neither way" in verdict.sentence


def test_without_a_winner_there_is_nothing_to_confirm(make_verdict, make_protocol, info, speak):
    none = make_verdict([info("good")], [*speak(BASE_VARIANT), *speak("good")])
    assert apply_listening_test(none, Ratings.build(rated(0.5)), make_protocol()) is none


def test_the_winner_must_have_been_rated(pending, make_protocol):
    other = Ratings.build([Rating("r", "c0", BASE_VARIANT, axis, 3) for axis in AXES])
    with pytest.raises(ValueError, match="got 'good'"):
        apply_listening_test(pending, other, make_protocol())


BETTER, WORSE, UNCLEAR = (World(gain, taste=0.0) for gain in (0.8, -0.8, 0.15))


def two_languages(verdict=None, **truths):
    """The verdict after each language's own eight listeners."""
    rng, names = np.random.default_rng(4), ("km", "ko")
    rows = [
        row for name, world in truths.items() for row in World().rows(world.scores(rng), "r", name)
    ]
    rule = protocol_of(500, names)
    return apply_listening_test(verdict or pending_verdict(names), Ratings.build(rows), rule)


@pytest.mark.parametrize(
    ("km", "ko", "outcome", "winners"),
    [
        (BETTER, BETTER, "PROMOTE", [WINNER, WINNER]),
        (BETTER, WORSE, "PROMOTE-BY-LANGUAGE", [WINNER, None]),
        (WORSE, WORSE, "REGRESSION", [None, None]),
        (BETTER, UNCLEAR, "PROMOTE-PENDING-LISTENING", [WINNER, WINNER]),
        (WORSE, UNCLEAR, "PROMOTE-PENDING-LISTENING", [None, WINNER]),
    ],
)
def test_each_language_is_decided_by_its_own_panel(km, ko, outcome, winners):
    verdict = two_languages(km=km, ko=ko)
    assert verdict.verdict == outcome
    assert [group.variant for group in verdict.groups] == winners
    assert (verdict.variant is None) == (not outcome.startswith("PROMOTE"))
    assert [panel.group for panel in verdict.listening] == [("language", "km"), ("language", "ko")]
    # One rater of two languages is one in each panel.
    assert [panel.raters for panel in verdict.listening] == [8, 8]
    findings = {BETTER: "better", WORSE: "worse", UNCLEAR: "undecided"}
    for name, truth in (("km", km), ("ko", ko)):
        assert f"language {name}: {findings[truth]}, 8 listeners over 20" in verdict.sentence
    if outcome == "PROMOTE-BY-LANGUAGE":
        assert verdict.sentence.startswith("Promote for km alone. ")


def test_a_language_that_nobody_heard_is_awaited_and_named():
    verdict = two_languages(km=BETTER)
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", WINNER)
    assert "language ko: nobody has rated it" in verdict.sentence


def test_a_language_that_the_metrics_refuse_is_not_heard():
    verdict = pending_verdict(("km", "ko"))
    km, ko = verdict.groups
    refused = replace(ko, verdict="REGRESSION", variant=None)
    verdict = two_languages(replace(verdict, groups=(km, refused)), km=BETTER, ko=BETTER)
    assert verdict.verdict == "PROMOTE-BY-LANGUAGE"
    assert [panel.group for panel in verdict.listening] == [("language", "km")]
    assert "language ko: REGRESSION by the metrics" in verdict.sentence
    assert verdict.groups[1] == refused


def test_a_language_that_the_metrics_left_open_hears_the_winner_of_all():
    verdict = pending_verdict(("km", "ko"))
    km, ko = verdict.groups
    undecided = replace(ko, verdict="INCONCLUSIVE", variant=None)
    verdict = two_languages(replace(verdict, groups=(km, undecided)), km=BETTER, ko=BETTER)
    assert verdict.verdict == "PROMOTE"
    assert [(g.verdict, g.variant) for g in verdict.groups] == [("PROMOTE", WINNER)] * 2


def test_a_language_is_promoted_alone_where_the_whole_has_no_winner():
    verdict = pending_verdict(("km", "ko"))
    km, ko = verdict.groups
    groups = (km, replace(ko, verdict="REGRESSION", variant=None))
    whole = replace(verdict, verdict="INCONCLUSIVE", variant=None, runner_up="x", groups=groups)
    verdict = two_languages(whole, km=BETTER)
    assert (verdict.verdict, verdict.variant, verdict.runner_up) == (
        "PROMOTE-BY-LANGUAGE",
        None,
        "x",
    )
    assert [group.verdict for group in verdict.groups] == ["PROMOTE", "REGRESSION"]
    assert verdict.sentence.startswith("Promote for km alone. language km: better, 8 listeners")
    refuted = two_languages(whole, km=WORSE)
    assert (refuted.verdict, refuted.groups[0].verdict) == ("INCONCLUSIVE", "REGRESSION")
    assert "Listeners: language km: worse" in refuted.sentence


def test_the_winner_is_not_heard_in_a_language_whose_prompts_refuse_it(pending):
    """Its own finalist may leave the language undecided all the same."""
    found = pending.confirmed[0]
    verdict = pending_verdict(("km", "ko"))
    km, ko = verdict.groups
    shown = replace(found, row=replace(found.row, id=WINNER), finding="worse")
    refused = replace(ko, own="x", verdict="INCONCLUSIVE", variant=None, confirmed=(shown,))
    verdict = replace(verdict, groups=(km, refused))
    assert (verdict.variant_for(km), verdict.variant_for(refused)) == (WINNER, None)
    heard = two_languages(verdict, km=BETTER, ko=BETTER)
    assert heard.verdict == "PROMOTE-BY-LANGUAGE"
    assert "language ko: INCONCLUSIVE by the metrics" in heard.sentence
    heard = two_languages(verdict, km=WORSE, ko=BETTER)
    assert (heard.verdict, heard.variant) == ("INCONCLUSIVE", None)
    assert heard.sentence.startswith("Inconclusive: language km: worse, 8 listeners")
