"""The rule for choosing, case by case."""

import itertools
import math
from dataclasses import replace

import pytest

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.judge import judge
from orchestrator.verdict.outcome import GroupLoss, Verdict
from orchestrator.verdict.protocol import Constraint, MetricVersion
from orchestrator.verdict.table import ScoreTable

GOOD = {"p808": [3.3, 3.4, 3.35, 3.45]}
"""A gain of 0.375."""
OTHER_VOICE = {"p808": [4.0], "speaker_similarity": [0.5]}
RUNAWAY = {"p808": [4.0], "tail_silence": [9.0]}
MIXED = {"p808": [4.5, 2.5, 4.6, 2.6]}
"""A gain of 0.55 with a wide interval."""


def test_a_clear_gain_is_promoted_pending_listening(make_verdict, make_protocol, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("good", **GOOD), *speak("same")]
    verdict = make_verdict([info("good"), info("same")], clips)
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    assert (verdict.variant, verdict.runner_up) == ("good", "same")
    assert verdict.protocol_hash == make_protocol().digest()
    assert verdict.row("good").standing == "winner"
    assert verdict.row(BASE_VARIANT).standing == "base"
    (confirmed,) = verdict.confirmed
    assert (confirmed.row.id, confirmed.finding) == ("good", "better")
    assert confirmed.p == confirmed.p_holm == pytest.approx(2**-8, rel=0.5)


def test_a_second_use_of_set_b_is_said_and_adjusted_for(make_verdict, make_protocol, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("good", **GOOD), *speak("before", p808=[3.2])]
    variants = [info("good"), info("before")]
    once = make_verdict(variants, clips, make_protocol(finalists=1))
    protocol = make_protocol(finalists=1, confirmed_before=("before",))
    again = make_verdict(variants, clips, protocol)
    assert [each.row.id for each in once.confirmed] == ["good"]
    assert [each.row.id for each in again.confirmed] == ["good", "before"]
    assert again.confirmed[0].p == once.confirmed[0].p
    assert again.confirmed[0].p_holm == pytest.approx(2 * once.confirmed[0].p_holm)
    assert "Set B tested 1 other finalist before" in again.sentence
    assert "Set B tested" not in once.sentence


def test_only_set_b_is_printed_as_the_effect(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("v", p808=[4.0])]
    fresh = speak("v", of="c", **GOOD)
    verdict = make_verdict([info("v")], clips, fresh=fresh)
    assert verdict.row("v").gain.mean == pytest.approx(1.0)
    assert verdict.effect.mean == pytest.approx(0.375)
    assert "by +0.375" in verdict.sentence


def test_variants_identical_to_the_base_mean_do_not_fine_tune(make_verdict, info, speak):
    names = ("a", "b", "c", "d")
    clips = [clip for name in (BASE_VARIANT, *names) for clip in speak(name)]
    verdict = make_verdict([info(name) for name in names], clips)
    assert (verdict.verdict, verdict.variant) == ("DO-NOT-FINE-TUNE", None)
    assert "does nothing: on fresh prompts every score is the base's" in verdict.sentence
    assert [each.p_holm for each in verdict.confirmed] == [1.0, 1.0]
    assert all(row.objective == 0 for row in verdict.rows)


def test_a_gain_of_set_a_that_set_b_does_not_show_promotes_nothing(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("lucky", **GOOD)]
    verdict = make_verdict([info("lucky")], clips, fresh=speak("lucky", of="c"))
    assert verdict.verdict == "DO-NOT-FINE-TUNE"
    row = verdict.row("lucky")
    assert row.standing == "rejected"
    assert row.reasons == ("set B: does nothing: every score is the base's",)


def test_a_wide_interval_is_inconclusive_and_says_how_many_prompts_would_do(
    make_verdict, info, speak
):
    clips = [*speak(BASE_VARIANT), *speak("v", **MIXED)]
    verdict = make_verdict([info("v")], clips)
    assert (verdict.verdict, verdict.variant) == ("INCONCLUSIVE", None)
    assert "not clear of 0" in verdict.row("v").reasons[0]
    # pi / 3 * ((1.645 + 0.842) * sd / 0.1) ** 2, with sd 1.07 of the differences
    assert verdict.prompts_needed == pytest.approx(740, rel=0.02)
    assert f"About {verdict.prompts_needed} prompts" in verdict.sentence


def test_clearly_worse_is_a_regression(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("v", p808=[2.5, 2.6])]
    verdict = make_verdict([info("v")], clips)
    assert (verdict.verdict, verdict.variant, verdict.runner_up) == ("REGRESSION", None, "v")
    assert "made it worse" in verdict.sentence


@pytest.mark.parametrize(
    ("scores", "reason", "on_set_b"),
    [
        (
            OTHER_VOICE,
            "speaker_similarity 0.5 (base 0.9): worse by 0.4 and up to 0.4, 0.02 allowed",
            "DO-NOT-FINE-TUNE",
        ),
        # A failed clip has the worst score.
        (RUNAWAY, "{0} of {0} clips failed, 1 allowed", "REGRESSION"),
    ],
)
def test_a_better_primary_does_not_buy_a_broken_rule(
    make_verdict, info, speak, scores, reason, on_set_b
):
    verdict = make_verdict([info("better")], [*speak(BASE_VARIANT), *speak("better", **scores)])
    assert verdict.verdict == "DO-NOT-FINE-TUNE"
    assert verdict.row("better").standing == "rejected"
    assert verdict.row("better").reasons[0] == reason.format(4)
    assert reason.format(4) in verdict.sentence
    assert verdict.confirmed == ()
    broken_on_b = make_verdict(
        [info("better")],
        [*speak(BASE_VARIANT), *speak("better", **GOOD)],
        fresh=speak("better", of="c", **scores),
    )
    assert broken_on_b.verdict == on_set_b
    assert broken_on_b.confirmed[0].finding == "ruled out"
    assert broken_on_b.row("better").reasons[0] == f"set B: {reason.format(8)}"


def test_a_constraint_that_set_b_cannot_decide_is_inconclusive(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("v", **GOOD)]
    unsteady = speak("v", of="c", **GOOD, speaker_similarity=[0.95, 0.83])
    verdict = make_verdict([info("v")], clips, fresh=unsteady)
    assert verdict.verdict == "INCONCLUSIVE"
    check = verdict.confirmed[0].row.constraints[0]
    assert check.worsening.mean < check.margin < check.bound
    # The bound lies 0.03 beyond a mean of 0.01, and 0.01 more is allowed: with a power of 0.8,
    # z is 1.645 + 0.842 in place of 1.645.
    times = (check.bound - check.worsening.mean) / 0.01 * (1.645 + 0.842) / 1.645
    assert verdict.prompts_needed == pytest.approx(8 * times**2, abs=1)


def test_of_finalists_that_cannot_be_told_apart_the_smallest_change_wins(
    make_verdict, make_protocol, info, speak
):
    tied = {"p808": [3.4, 3.3, 3.42, 3.32]}
    variants = [
        info("best", rank=64, epoch=1),
        info("late", rank=8, epoch=3),
        info("chosen", rank=8, epoch=2),
    ]
    clips = speak(BASE_VARIANT) + speak("best", p808=[3.5, 3.3, 3.3, 3.4])
    for variant in variants[1:]:
        clips += speak(variant.id, **tied)
    verdict = make_verdict(variants, clips, make_protocol(finalists=3))
    assert verdict.variant == "chosen"
    assert "not told apart from the winner" in verdict.row("best").reasons[0]
    assert verdict.row("late").standing == "passed"


def test_a_smaller_rank_that_is_clearly_worse_does_not_win(make_verdict, info, speak):
    clips = speak(BASE_VARIANT) + speak("large", p808=[4.0]) + speak("small", p808=[3.5])
    verdict = make_verdict([info("large", rank=64), info("small", rank=4)], clips)
    assert (verdict.variant, verdict.runner_up) == ("large", "small")
    assert "not among the finalists" in verdict.row("small").reasons[0]


def test_the_runner_up_is_of_another_trial_where_there_is_one(make_verdict, info, speak):
    twin, other = info("twin", trial="good", epoch=2), info("other")
    clips = speak(BASE_VARIANT) + speak("good", p808=[4.0]) + speak("twin", p808=[3.9])
    with_other = clips + speak("other", p808=[3.2])
    assert make_verdict([info("good"), twin, other], with_other).runner_up == "other"
    assert make_verdict([info("good"), twin], clips).runner_up == "twin"


def test_failed_clips_count_as_the_worst_score(make_verdict, make_protocol, info, speak):
    protocol = make_protocol(constraints=())
    clipped = speak("v", p808=[4.0], clipping=[0.5, 0.0, 0.0, 0.0])
    verdict = make_verdict([info("v")], [*speak(BASE_VARIANT), *clipped], protocol)
    # Three clips gain 1, the clipped one falls from 3 to the bound of 1; one failure is allowed.
    assert verdict.row("v").gain.mean == pytest.approx((3 * 1 - 2) / 4)
    assert verdict.row("v").failed_clips[0].prompt == "p0"


def test_a_lower_is_better_primary_gains_by_falling(make_verdict, make_protocol, info, speak):
    protocol = make_protocol(primary="tail_silence", constraints=())
    clips = [
        *speak(BASE_VARIANT),
        *speak("calm", tail_silence=[0.0]),
        *speak("long", tail_silence=[1.0]),
    ]
    verdict = make_verdict([info("calm"), info("long")], clips, protocol)
    assert verdict.variant == "calm"
    assert verdict.effect.mean == pytest.approx(0.2)
    assert verdict.row("calm").differences["tail_silence"].mean == pytest.approx(-0.2)


def test_no_scores_at_all_is_no_verdict(base, info, speak, make_protocol):
    protocol = make_protocol()
    for clips in (
        speak(BASE_VARIANT),
        [
            *speak(BASE_VARIANT),
            *(ClipScores("v", c.prompt, 0, {}, {"p808": "x"}) for c in speak("v")),
        ],
        [
            *(ClipScores(BASE_VARIANT, c.prompt, 0, {}) for c in speak(BASE_VARIANT)),
            *speak("v", **GOOD),
        ],
    ):
        verdict = judge(ScoreTable.build([base, info("v")], clips, protocol), None, protocol)
        assert (verdict.verdict, verdict.variant, verdict.effect) == ("NO-VERDICT", None, None)
        assert verdict.row("v").standing == "rejected"
        assert verdict.row("v").reasons


def test_a_finalist_that_was_not_heard_on_set_b_is_no_verdict(base, info, speak, make_protocol):
    protocol = make_protocol()
    clips = [*speak(BASE_VARIANT), *speak("v", **GOOD)]
    screen = ScoreTable.build([base, info("v")], clips, protocol)
    alone = ScoreTable.build([base], speak(BASE_VARIANT, of="c"), protocol.confirming())
    for confirmation in (None, alone):
        verdict = judge(screen, confirmation, protocol)
        assert verdict.verdict == "NO-VERDICT"
        assert "v lack scores of set B" in verdict.sentence.replace("base, ", "")


def test_a_truncated_set_decides_nothing_and_says_what_is_missing(make_verdict, info, speak):
    clips = speak(BASE_VARIANT) + speak("half", prompts=2, p808=[5.0])
    verdict = make_verdict([info("half")], clips)
    assert verdict.verdict == "INCONCLUSIVE"
    assert (verdict.unscored, verdict.prompts_needed) == ({"half": 4}, None)
    assert verdict.row("half").reasons[0] == "set B: 4 of 8 clips failed, 1 allowed"
    assert verdict.sentence.endswith(
        " Not scored: 4 of half's 8 clips; here they count against the variant. "
        "Score them, then judge again."
    )


def test_a_missing_score_of_the_base_is_no_gain(make_verdict, info, speak):
    """Of eight prompts the base lacks two: whatever they were, a small gain is not shown."""
    base = [c for c in speak(BASE_VARIANT) if c.prompt != "p1"]
    gone = ClipScores(BASE_VARIANT, "p1", 0, {}, {"p808": "crashed"})
    clips = [*base, gone, *speak("v", **GOOD)]
    verdict = make_verdict([info("v")], clips)
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.unscored == {BASE_VARIANT: 2}
    assert "Not scored: 2 of the base's 8 clips" in verdict.sentence


def test_what_is_worse_whatever_was_not_scored_is_a_regression(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("v", p808=[1.0, 1.1])]
    lost = [
        ClipScores("v", c.prompt, 0, {}, {"p808": "crashed"}) if c.prompt == "c0" else c
        for c in speak("v", of="c", p808=[1.0, 1.1])
    ]
    verdict = make_verdict([info("v")], clips, fresh=lost)
    assert verdict.verdict == "REGRESSION"
    assert verdict.sentence.endswith("1 of v's 8 clips; here they count for the variant.")


def test_the_effect_of_a_winner_allows_for_its_selection(make_verdict, make_protocol, info, speak):
    protocol = make_protocol(length=12, constraints=())
    near = {"p808": [3.0, 3.3, 3.05, 3.28]}
    clips = [*speak(BASE_VARIANT, 12), *speak("v", 12, **near)]
    verdict = make_verdict([info("v")], clips, protocol)
    (confirmed,) = verdict.confirmed
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    assert verdict.effect == confirmed.claim
    assert 0 < verdict.effect.mean < confirmed.row.gain.mean
    assert 0 <= verdict.effect.low < confirmed.row.gain.low
    assert verdict.effect.high == confirmed.row.gain.high
    assert "given that it was found better (measured +0.157)" in verdict.sentence
    assert "that it gains 0.1 is not shown" in verdict.sentence


def test_what_finalists_alone_get_is_checked_on_set_b(make_verdict, make_protocol, info, speak):
    word_error = MetricVersion(
        name="word_error", version="1", unit="share", direction="lower", low=0, high=1
    )
    protocol = make_protocol(
        metrics=(*make_protocol().metrics, word_error),
        finalist_metrics=("word_error",),
        constraints=(Constraint(metric="word_error", margin=0.1),),
    )
    clips = [*speak(BASE_VARIANT), *speak("v", **GOOD)]
    for errors, expected in (([0.15], "PROMOTE-PENDING-LISTENING"), ([0.5], "DO-NOT-FINE-TUNE")):
        fresh = [
            *speak(BASE_VARIANT, of="c", word_error=[0.1]),
            *speak("v", of="c", word_error=errors, **GOOD),
        ]
        assert make_verdict([info("v")], clips, protocol, fresh).verdict == expected
    unheard = [*speak(BASE_VARIANT, of="c", word_error=[0.1]), *speak("v", of="c", **GOOD)]
    assert make_verdict([info("v")], clips, protocol, unheard).verdict == "NO-VERDICT"


def test_loss_is_compared_with_the_primary_as_trained(make_verdict, info, speak):
    scores = {"a": (1.0, 3.1), "b": (2.0, 3.2), "c": (3.0, 3.3)}
    variants, clips = [], speak(BASE_VARIANT)
    for name, (loss, p808) in scores.items():
        for scale in (0.5, 1.0):
            variants.append(
                info(f"{name}{scale}", trial=name, lora_scale=scale, validation_loss=loss)
            )
            clips += speak(f"{name}{scale}", p808=[p808 * scale])
    loss = make_verdict(variants, clips).loss
    assert (loss.spearman, loss.checkpoints) == (pytest.approx(1.0), 3)
    assert (loss.lowest, loss.lowest_rank, loss.variants) == ("a1.0", 3, 6)


PRIMARY = {"one": [3.5, 3.6, 3.4, 3.5], "two": [3.3, 3.4, 3.2, 3.3], "three": [3.3, 3.5, 3.1, 3.4]}


def test_the_lowest_loss_is_not_chosen_where_it_sounds_worse(make_verdict, info, speak):
    """Each checkpoint has a lower loss than the one before it; the first sounds best."""
    variants, clips = [], speak(BASE_VARIANT)
    for epoch, (name, p808) in enumerate(PRIMARY.items(), start=1):
        variants.append(info(name, trial="a", epoch=epoch, validation_loss=2.0 - epoch / 4))
        clips += speak(name, p808=p808)
    verdict = make_verdict(variants, clips)
    assert (verdict.variant, verdict.verdict) == ("one", "PROMOTE-PENDING-LISTENING")
    assert (verdict.loss.lowest, verdict.loss.lowest_rank) == ("three", 2)
    (found,) = verdict.loss.divergences  # from two to three the metric rises by chance
    assert (found.trial, found.since, found.until, found.losses) == ("a", 1, 2, (1.75, 1.5))
    assert found.fall.mean == pytest.approx(0.2)
    assert found.fall.low > 0
    assert Verdict.from_json(verdict.to_json()).loss.divergences == (found,)


@pytest.mark.parametrize(
    ("losses", "second"),
    [
        ((1.0, 1.1), [3.0, 3.0, 3.0, 3.0]),  # the loss says the same
        ((1.1, 1.0), [3.6, 3.7, 3.5, 3.6]),  # it sounds better, too
        ((1.1, 1.0), [3.4, 3.9, 3.0, 3.6]),  # a fall that may be chance
    ],
)
def test_what_is_no_divergence(make_verdict, info, speak, losses, second):
    variants = [
        info(name, trial="a", epoch=epoch, validation_loss=loss)
        for epoch, (name, loss) in enumerate(zip(("one", "two"), losses, strict=True), start=1)
    ]
    clips = [*speak(BASE_VARIANT), *speak("one", p808=PRIMARY["one"]), *speak("two", p808=second)]
    assert make_verdict(variants, clips).loss.divergences == ()


def test_a_diverged_loss_is_left_out(make_verdict, info, speak):
    clips = speak(BASE_VARIANT) + speak("v")
    assert make_verdict([info("v", validation_loss=math.nan)], clips).loss is None


def test_the_same_tables_give_the_same_verdict_and_read_back(make_verdict, info, speak):
    clips = [*speak(BASE_VARIANT), *speak("good", **GOOD), *speak("other", **OTHER_VOICE)]
    variants = [info("good"), info("other")]
    first, again = (make_verdict(variants, clips) for _ in range(2))
    assert first == again
    assert Verdict.from_json(first.to_json()) == first


@pytest.fixture
def shortlisted(base, info, speak, make_protocol):
    """Judge with a shortlist after two of four prompts; ``late`` is told apart by the rest."""
    protocol = make_protocol(shortlist_after=2, constraints=(), finalists=1)
    variants = [base, *(info(name, rank=8 * (place + 1)) for place, name in enumerate("abc"))]
    scores = {"a": {"p808": [3.3, 3.4]}, "b": {"p808": [3.4, 3.5, 2.0, 2.1]}, "c": {}}
    said = {name: speak(name, **scores.get(name, {})) for name in (BASE_VARIANT, *scores)}
    again = [c for n in (BASE_VARIANT, *scores) for c in speak(n, of="c", **scores.get(n, {}))]
    first = [clip for clips in said.values() for clip in clips[:2]]
    screen = ScoreTable.build(variants, first, protocol.screening())
    confirmation = ScoreTable.build(variants, again, protocol.confirming())

    def judged(names):
        clips = [clip for name in names for clip in said[name]]
        of = [variant for variant in variants if variant.id in names]
        table = ScoreTable.build(of, clips, protocol) if names else None
        return judge(screen, confirmation, protocol, table)

    return judged


def test_finalists_are_chosen_by_all_of_set_a(shortlisted):
    verdict = shortlisted([BASE_VARIANT, "a", "b", "c"])
    assert verdict.variant == "a", "b was the best of the first two prompts"
    assert [row.id for row in verdict.shortlisted] == ["b", "a", "c"]
    assert verdict.row("b").gain.mean == pytest.approx(0.45)
    assert verdict.shortlisted[0].gain.mean == pytest.approx(-0.25)
    assert verdict.row("b").reasons[0].startswith("all of set A: gain -0.25 is below")
    assert Verdict.from_json(verdict.to_json()) == verdict


@pytest.mark.parametrize("heard", [[], [BASE_VARIANT, "a"]])
def test_a_shortlist_that_was_not_heard_is_no_verdict(shortlisted, heard):
    verdict = shortlisted(heard)
    assert verdict.verdict == "NO-VERDICT"
    assert "b, " in verdict.sentence
    assert "lack scores of the rest of set A" in verdict.sentence


def in_turn(prompts, languages=("en", "km")):
    """The same prompts, of these languages in turn."""
    return tuple(
        prompt.model_copy(update={"language": languages[i % len(languages)]})
        for i, prompt in enumerate(prompts)
    )


def test_each_language_says_what_its_own_loss_would_have_chosen(
    make_verdict, make_protocol, info, speak
):
    """Of three variants that are best by ear in en, km and nowhere, loss likes others."""
    protocol = make_protocol(length=8, constraints=(), finalists=1)
    protocol = protocol.model_copy(
        update={
            "prompts": in_turn(protocol.prompts),
            "confirmation": in_turn(protocol.confirmation),
        }
    )
    heard = {"v": [4.0, 3.5], "khmer": [2.0, 3.9], "deaf": [2.5, 2.5]}
    losses = {"v": (2.0, 1.0, 2.5), "khmer": (1.9, 2.0, 1.5), "deaf": (1.8, 0.5, 1.4)}
    variants = [
        info(
            name,
            validation_loss=loss,
            group_losses={"language/en": en, "language/km": km, "speaker/ann": 0.0},
        )
        for name, (loss, en, km) in losses.items()
    ]
    # The same checkpoint at another strength is no other loss.
    weak = replace(variants[1], id="weak", lora_scale=0.5)
    clips = [*speak(BASE_VARIANT, 8), *speak("weak", 8, p808=[2.0, 2.0])]
    for name, scores in heard.items():
        clips += speak(name, 8, p808=scores)
    verdict = make_verdict([*variants, weak], clips, protocol)
    assert verdict.variant == "v"
    assert verdict.loss.lowest == "deaf"
    en, km = (group.loss for group in verdict.groups)
    assert [group.name for group in verdict.groups] == ["en", "km"]
    assert en == GroupLoss(1.0, lowest="deaf", lowest_loss=0.5, lowest_rank=2, variants=4)
    assert (verdict.groups[1].own, verdict.groups[1].variant) == ("khmer", "khmer")
    assert km == GroupLoss(1.5, lowest="deaf", lowest_loss=1.4, lowest_rank=3, variants=4)
    assert Verdict.from_json(verdict.to_json()) == verdict
    unnamed = protocol.model_copy(update={"prompts": in_turn(protocol.prompts, [None])})
    en, _ = (group.loss for group in make_verdict([*variants, weak], clips, unnamed).groups)
    assert en == GroupLoss(1.0, lowest="deaf", lowest_loss=0.5, lowest_rank=None, variants=4)
    plain = [info(name) for name in losses]
    without = [clip for clip in clips if clip.variant != "weak"]
    assert {group.loss for group in make_verdict(plain, without, protocol).groups} == {None}


def test_each_language_has_a_verdict_of_its_own(make_verdict, make_protocol, info, speak):
    prompts = [
        prompt.model_copy(update={"language": ("en", "km")[i % 2]})
        for i, prompt in enumerate(make_protocol(length=8).confirmation)
    ]
    protocol = make_protocol(length=8, confirmation=tuple(prompts), constraints=(), finalists=1)
    clips = [*speak(BASE_VARIANT, 8), *speak("v", 8, p808=[4.0])]
    fresh = speak("v", 16, of="c", p808=[4.0, 2.8, 4.1, 2.7])
    verdict = make_verdict([info("v")], clips, protocol, fresh=fresh)
    en, km = verdict.groups
    assert (en.group, en.name, en.verdict, en.variant) == (
        "language",
        "en",
        "PROMOTE-PENDING-LISTENING",
        "v",
    )
    assert (km.name, km.verdict, km.variant) == ("km", "REGRESSION", None)
    assert (en.effect.mean, en.effect.n) == (pytest.approx(1.05), 8)
    assert " But it is worse than the base for language km. For language en promote " in (
        verdict.sentence
    )


def spoken(protocol, speak, on_a, on_b=None):
    """Clips of the base and these variants on both sets, their scores of p808 by language."""
    clips = {"p": [], "c": []}
    for of, prompts, said in (("p", "prompts", on_a), ("c", "confirmation", on_b or on_a)):
        languages = [prompt.language for prompt in getattr(protocol, prompts)]
        clips[of] += speak(BASE_VARIANT, len(languages), of=of)
        for name, scores in said.items():
            turns = {language: itertools.cycle(values) for language, values in scores.items()}
            p808 = [next(turns[language]) for language in languages]
            clips[of] += speak(name, len(languages), of=of, p808=p808)
    return clips


@pytest.fixture
def judged_by_language(make_protocol, base, info, speak):
    """Judge variants by what they score in each language."""

    def make(on_a, on_b=None, turns=("en", "km"), length=8, ranks=None, **changes):
        protocol = make_protocol(length=length, **{"constraints": (), "finalists": 1, **changes})
        protocol = protocol.model_copy(
            update={
                "prompts": in_turn(protocol.prompts, turns),
                "confirmation": in_turn(protocol.confirmation, turns),
            }
        )
        infos = [base, *(info(name, rank=(ranks or {}).get(name, 16)) for name in on_a)]
        clips = spoken(protocol, speak, on_a, on_b)
        screen = ScoreTable.build(infos, clips["p"], protocol)
        fresh = ScoreTable.build(infos, clips["c"], protocol.confirming())
        return judge(screen, fresh, protocol)

    return make


def test_each_language_has_a_finalist_of_its_own_and_all_tests_share_the_level(judged_by_language):
    said = {"even": {"en": [3.3], "km": [3.3]}, "khmer": {"en": [2.4], "km": [3.9]}}
    verdict = judged_by_language(said)
    en, km = verdict.groups
    assert (verdict.variant, en.own, km.own) == ("even", "even", "khmer")
    assert [(c.row.id, c.finding) for c in km.confirmed] == [
        ("khmer", "better"),
        ("even", "better"),
    ]
    assert (en.variant, km.variant) == ("even", "khmer")
    # By hand: all gains are positive, so p is 2^-16 on all and 2^-8 in a language. Shares are 1/2
    # on all; 1/4 for en, whose own finalist is the sweep's; 1/8 each for both finalists of km.
    assert [c.p_holm for c in verdict.confirmed] == [2**-16 / (1 / 2)]
    assert [c.p_holm for c in en.confirmed] == [2**-8 / (1 / 4) * (1 / 2)]
    assert [c.p_holm for c in km.confirmed] == [2**-8 / (1 / 8) * (1 / 4)] * 2
    assert " For language km promote the checkpoint of trial " in verdict.sentence
    assert verdict.row("khmer").reasons[-1] == (
        "the finalist of language km alone: better, and the winner there"
    )
    assert verdict.finalists == ("even", "khmer")
    assert {rate.variant for rate in verdict.error_rates} <= {BASE_VARIANT, "even", "khmer"}
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_language_that_cannot_tell_its_own_finalist_from_the_winner_has_the_winner(
    judged_by_language,
):
    even = {"en": [3.4], "km": [3.3, 3.5]}
    verdict = judged_by_language(
        {"even": even, "khmer": {"en": [2.9], "km": [3.6, 3.4]}},
        {"even": even, "khmer": {"en": [2.9], "km": [3.5, 3.3]}},
        ranks={"khmer": 8},
    )
    km = verdict.groups[1]
    assert (km.own, [c.finding for c in km.confirmed]) == ("khmer", ["better", "better"])
    assert (verdict.variant, km.variant) == ("even", "even"), "although khmer changes less"
    assert verdict.variant_for(km) == "even"
    assert "promote" not in verdict.sentence


MOSTLY_ENGLISH = {"turns": ("en", "en", "en", "km"), "length": 16}


def test_a_language_in_which_the_winner_is_worse_is_named_whatever_its_own_finalist_does(
    judged_by_language,
):
    verdict = judged_by_language(
        {"v": {"en": [4.0], "km": [2.7]}, "other": {"en": [2.9], "km": [3.4, 2.7]}},
        {"v": {"en": [4.0], "km": [2.7]}, "other": {"en": [2.9], "km": [3.4, 2.7]}},
        **MOSTLY_ENGLISH,
    )
    km = verdict.groups[1]
    assert (verdict.variant, km.own, km.verdict) == ("v", "other", "INCONCLUSIVE")
    assert [c.finding for c in km.confirmed] == ["undecided", "worse"]
    assert verdict.variant_for(km) is None
    assert verdict.sentence.endswith(" But it is worse than the base for language km.")


def test_a_language_that_does_not_show_the_winners_gain_is_named(judged_by_language):
    verdict = judged_by_language({"v": {"en": [4.0], "km": [3.4, 2.7]}}, **MOSTLY_ENGLISH)
    km = verdict.groups[1]
    assert (verdict.variant, km.variant, verdict.variant_for(km)) == ("v", None, "v")
    assert verdict.sentence.endswith(" A gain is not shown for language km alone.")


def test_a_language_may_have_a_finalist_where_the_sweep_has_none(make_protocol, base, info, speak):
    """Every variant is shown to break a rule, by what it does in English."""
    turns = MOSTLY_ENGLISH["turns"]
    protocol = make_protocol(length=16)
    protocol = protocol.model_copy(
        update={
            "prompts": in_turn(protocol.prompts, turns),
            "confirmation": in_turn(protocol.confirmation, turns),
        }
    )
    infos, tables = [base, info("v")], []
    for of, count, rule in (("p", 16, protocol), ("c", 32, protocol.confirming())):
        voice = [0.5, 0.5, 0.5, 0.9]
        clips = speak("v", count, of=of, p808=[3.5], speaker_similarity=voice)
        tables.append(ScoreTable.build(infos, [*speak(BASE_VARIANT, count, of=of), *clips], rule))
    verdict = judge(*tables, protocol)
    en, km = verdict.groups
    assert (verdict.verdict, verdict.variant, verdict.confirmed) == ("DO-NOT-FINE-TUNE", None, ())
    assert (en.verdict, en.own, en.confirmed) == ("DO-NOT-FINE-TUNE", None, ())
    assert (km.verdict, km.variant) == ("PROMOTE-PENDING-LISTENING", "v")
    # It is the only test, at all of the level.
    assert [c.p_holm for c in km.confirmed] == [2**-8]
    assert "every one of the 1 variant is shown to break" in verdict.sentence
    assert " For language km promote the checkpoint of trial " in verdict.sentence
    silent = judge(tables[0], None, protocol)
    assert (silent.verdict, "base, v lack scores of set B" in silent.sentence) == (
        "NO-VERDICT",
        True,
    )
