"""Text items beside prompts: what a metric of answers decides, on tables that can be counted."""

import json
import math
import random
from dataclasses import replace

import pytest
from pydantic import ValidationError

from jobs.metrics.base import ClipScores
from jobs.spec.items import ChoiceItem, PassageItem
from jobs.spec.trial import BASE_VARIANT
from orchestrator.scores.from_files import judge_files
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.judge import judge
from orchestrator.verdict.power import Spread, weak_rules
from orchestrator.verdict.protocol import LEAST_ITEMS, Constraint, Prompt
from orchestrator.verdict.table import ScoreTable, ScoreTableError
from tests.orchestrator.verdict.conftest import METRICS, metric

CHOICE = metric("choice_accuracy", "higher", 0.0, 1.0, "0 or 1")
NLL = metric("text_nll", "lower", 0.0, 10.0, "nats/character")
COUNT = 100


def words(seed):
    """Text that no other seed's is like."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(6))


def questions(start, count=COUNT):
    return tuple(
        ChoiceItem(id=f"q{i}", question=words(i), choices=("a", "b"), answer=0)
        for i in range(start, start + count)
    )


def passages(start, count=LEAST_ITEMS):
    return tuple(PassageItem(id=f"t{i}", text=words(i)) for i in range(start, start + count))


@pytest.fixture
def make_rule(make_protocol):
    """Items of both kinds in both sets, and a constraint on the answers to questions."""

    def make(**changes):
        return make_protocol(
            **{
                "metrics": (*METRICS, CHOICE, NLL),
                "constraints": (Constraint(metric="choice_accuracy", margin=0.05),),
                "items": (*questions(0), *passages(1000)),
                "confirmation_items": (*questions(500), *passages(2000)),
                **changes,
            }
        )

    return make


def answers(variant, items, right, nll=1.0):
    """Answers of which the first ``right`` are right, and texts of one ``nll``."""
    rows, asked = [], 0
    for item in items:
        value = nll
        if isinstance(item, ChoiceItem):
            value, asked = float(asked < right), asked + 1
        rows.append(ClipScores(variant, item.id, 0, {item.metric: value}))
    return rows


def test_answers_have_a_table_of_their_own_and_clips_the_one_they_had(
    base, info, speak, make_protocol, make_rule
):
    rule, plain = make_rule(), make_protocol(constraints=())
    clips = speak(BASE_VARIANT) + speak("v", p808=[3.4, 3.5, 3.6, 3.5])
    asked = answers(BASE_VARIANT, rule.items, 60, 1.0) + answers("v", rule.items, 57, 1.25)
    table = ScoreTable.build([base, info("v")], clips + asked, rule)
    before = ScoreTable.build([base, info("v")], clips, plain)
    assert table.keys == before.keys
    assert table.prompts == before.prompts
    row, without = Comparison(table, rule).row("v"), Comparison(before, plain).row("v")
    assert row.gain == without.gain
    assert row.failures == without.failures
    assert row.means == {**without.means, "choice_accuracy": 0.57, "text_nll": 1.25}
    difference = row.differences["choice_accuracy"]
    assert (difference.mean, difference.n) == (pytest.approx(-0.03), COUNT)
    assert row.differences["text_nll"].n == LEAST_ITEMS
    assert row.missing == {}
    of_base = Comparison(table, rule).row(BASE_VARIANT).means
    assert (of_base["choice_accuracy"], of_base["text_nll"]) == (0.6, 1.0)


def test_a_variant_that_forgets_is_harmful_and_one_that_does_not_keeps_the_margin(
    base, info, speak, make_rule
):
    rule = make_rule()
    rows = speak(BASE_VARIANT) + answers(BASE_VARIANT, rule.items, 60)
    names = {"keeps": 60, "unclear": 57, "forgets": 30}
    for name, right in names.items():
        rows += speak(name, p808=[3.4, 3.5, 3.6, 3.5]) + answers(name, rule.items, right)
    comparison = Comparison(ScoreTable.build([base, *map(info, names)], rows, rule), rule)
    checks = {name: comparison.constraint_checks(name)[0] for name in names}
    assert [check.violation > 0 for check in checks.values()] == [False, True, True]
    assert [comparison.is_harmful(name) for name in names] == [False, False, True]
    assert comparison.assess("keeps").objective > 0 > comparison.assess("forgets").objective
    assert comparison.assess("forgets").measured["choice_accuracy"] == 0.3
    # A group's prompts are its own, and the items are everybody's.
    part = comparison.only(rule.prompts[:2])
    assert part.constraint_checks("forgets")[0].worsening.n == COUNT


def test_an_answer_without_a_score_counts_against_the_variant(base, info, speak, make_rule):
    rule = make_rule()
    rows = speak(BASE_VARIANT) + answers(BASE_VARIANT, rule.items, 60)
    lost = answers("v", rule.items, 60)
    lost[0] = replace(lost[0], values={}, failures={"choice_accuracy": "not finite"})
    rows += speak("v") + lost[:1] + lost[2:]
    comparison = Comparison(ScoreTable.build([base, info("v")], rows, rule), rule)
    row = comparison.row("v")
    assert row.missing == {"choice_accuracy": 2}
    assert row.means["choice_accuracy"] == pytest.approx(0.58)
    assert comparison.lenient.scores("v", "choice_accuracy").mean() == pytest.approx(0.6)


def test_near_copies_of_an_item_count_once(base, info, speak, make_rule):
    first, *rest = questions(0)
    copy = first.model_copy(update={"id": "copy", "question": first.question.upper()})
    rule = make_rule(items=(first, copy, *rest, *passages(1000)))
    rows = [*speak(BASE_VARIANT), *speak("v")]
    for name, right in ((BASE_VARIANT, 2), ("v", 1)):
        rows += answers(name, rule.items, right)
    row = Comparison(ScoreTable.build([base, info("v")], rows, rule), rule).row("v")
    assert row.differences["choice_accuracy"].n == COUNT
    assert row.differences["choice_accuracy"].mean == pytest.approx(-0.5 / COUNT)


def test_scores_that_do_not_fit_the_items_are_told_all_at_once(base, info, speak, make_rule):
    rule = make_rule()
    rows = speak(BASE_VARIANT) + answers(BASE_VARIANT, rule.items[1:], 60)
    rows += speak("v")
    rows += [
        ClipScores("v", "q1", 0, {"p808": 3.0}),
        ClipScores("v", "nowhere", 0, {"choice_accuracy": 1.0}),
        ClipScores("v", "p1", 0, {"choice_accuracy": 1.0}),
    ]
    with pytest.raises(ScoreTableError) as error:
        ScoreTable.build([base, info("v")], rows, rule)
    told = str(error.value)
    assert "no scored clip of prompt 'q0'" in told
    assert "got 'p808' at variant 'v', prompt 'q1'" in told
    assert "got 'nowhere' at variant 'v'" in told
    assert "got 'choice_accuracy' at variant 'v', prompt 'p1'" in told


def scored_sweep(rule, right, gains=tuple(0.6 + 0.01 * at for at in range(7))):
    """Scores on both sets of a base and of a voice that sounds better, and answers as ``right``."""
    rows = []
    for prompts, items in (
        (rule.prompts, rule.items),
        (rule.confirmation, rule.confirmation_items),
    ):
        for name, known in (("base", 60), ("v", right)):
            for at, prompt in enumerate(prompts):
                healthy = {each.name: 0.0 for each in METRICS}
                better = gains[at % len(gains)] if name == "v" else 0.0
                scores = {"p808": 3.0 + better, "speaker_similarity": 0.9, "duration": 4.0}
                scores |= {"speaking_rate": 12.0}
                rows.append(ClipScores(name, prompt.id, 0, {**healthy, **scores}))
            rows += answers(name, items, known)
    return rows


@pytest.mark.parametrize(
    ("right", "outcome"), [(60, "PROMOTE-PENDING-LISTENING"), (20, "DO-NOT-FINE-TUNE")]
)
def test_what_was_forgotten_decides_the_verdict_also_of_score_files(
    base, info, make_rule, tmp_path, right, outcome
):
    rule = make_rule()
    rows = scored_sweep(rule, right)
    infos = [base, info("v")]
    of_b = {each.id for each in (*rule.confirmation, *rule.confirmation_items)}
    screen = ScoreTable.build(infos, [row for row in rows if row.prompt not in of_b], rule)
    fresh = [row for row in rows if row.prompt in of_b]
    confirmation = ScoreTable.build(infos, fresh, rule.confirming())
    verdict = judge(screen, confirmation, rule)
    assert verdict.verdict == outcome
    if right == 20:
        assert "choice_accuracy" in verdict.sentence
    (tmp_path / "scores.jsonl").write_text("".join(row.to_json() + "\n" for row in rows))
    (tmp_path / "protocol.json").write_text(rule.model_dump_json())
    again, _ = judge_files(tmp_path / "scores.jsonl", tmp_path / "protocol.json")
    assert again.verdict == outcome


@pytest.mark.parametrize(("right", "helps"), [(60, True), (57, False)])
def test_text_that_is_undecided_is_not_decided_by_more_prompts(base, info, make_rule, right, helps):
    rule = make_rule(
        metrics=(*METRICS, CHOICE),
        finalist_metrics=("choice_accuracy",),
        items=(),
        confirmation_items=questions(500),
    )
    rows = scored_sweep(rule, right, gains=(0.5, -0.2))
    of_b = {each.id for each in (*rule.confirmation, *rule.confirmation_items)}
    infos = [base, info("v")]
    screen = ScoreTable.build(infos, [row for row in rows if row.prompt not in of_b], rule)
    fresh = [row for row in rows if row.prompt in of_b]
    verdict = judge(screen, ScoreTable.build(infos, fresh, rule.confirming()), rule)
    assert verdict.verdict == "INCONCLUSIVE"
    assert (verdict.prompts_needed is not None) == helps


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"primary": "choice_accuracy"}, "primary is a metric of clips, got 'choice_accuracy'"),
        ({"items": (*questions(0), *questions(0))}, "used once in sets A and B, got 'q0' twice"),
        ({"items": passages(1000)}, "choice_accuracy needs 20 to 2000 items in set A, got 0"),
        ({"confirmation_items": ()}, "text_nll needs 20 to 2000 items in set B, got 0"),
        ({"metrics": (*METRICS, CHOICE)}, "items of set A are measured, got 20 of text_nll"),
        (
            {
                "confirmation_items": (
                    *questions(500),
                    *(each.model_copy(update={"id": f"u{each.id}"}) for each in passages(1000)),
                )
            },
            "set B has texts that set A has not",
        ),
        (
            {"prompts": (Prompt(id="q7", text="Hm."), Prompt(id="p1", text="So."))},
            "an item's id is not a prompt's, got 'q7' for both",
        ),
    ],
)
def test_items_that_do_not_fit_are_refused(make_rule, changes, told):
    with pytest.raises(ValidationError) as error:
        make_rule(**changes)
    assert told in str(error.value)


def test_a_protocol_keeps_its_items_through_json_and_its_digest_without_any(
    make_rule, make_protocol
):
    rule = make_rule()
    assert type(rule).model_validate_json(rule.model_dump_json()) == rule
    assert rule.of_clips().over_items() == {}
    assert {m.name for m in rule.of_clips().metrics} == {m.name for m in METRICS}
    assert rule.of_clips().constraints == ()
    stored = make_protocol()
    without = {k: v for k, v in json.loads(stored.model_dump_json()).items() if "items" not in k}
    assert type(stored).model_validate(without).digest() == stored.digest()
    assert rule.digest() != make_rule(items=(*questions(1), *passages(1000))).digest()


def test_the_power_of_a_margin_is_that_of_its_items(make_rule):
    rule = make_rule(constraints=(Constraint(metric="choice_accuracy", margin=0.02),))
    spreads = {"choice_accuracy": Spread(0.32, "as told")}
    (told,) = weak_rules(rule, rule.confirmation, spreads, rule.confirmation_items)
    # (2.486 * 0.32 / 0.02) ** 2
    assert "by 100 items of set B" in told
    assert f"{math.ceil((2.4865 * 0.32 / 0.02) ** 2)} items or a margin of 0.08" in told
    assert not list(weak_rules(rule, rule.confirmation, spreads, questions(0, 1600)))
