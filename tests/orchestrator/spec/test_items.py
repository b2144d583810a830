"""Text items in a spec: which are refused before anything is spent, and what the plan counts."""

import json
import random

import pytest

from cluster.storage.base import LocalStorage
from jobs.problems import InputError
from orchestrator.spec.inputs import read_inputs
from orchestrator.spec.plan import plan
from tests.small_sweep import write_manifest

SCORING = (
    "scoring: {{metrics: [similarity, word_error{metrics}], finalist_metrics: [{finalists}], "
    "primary: {primary}, min_effect: 0.05, constraints: [{constraints}]}}"
)
DATA = "data: {synthetic: true, manifest: manifest.jsonl}"
VARIANTS = "variants: {items: a.jsonl, confirmation_items: b.jsonl}"


def scoring(metrics="", finalists="", primary="similarity", constraints=""):
    return SCORING.format(
        metrics=metrics, finalists=finalists, primary=primary, constraints=constraints
    )


def questions(path, seed, count=20):
    draw = random.Random(seed)

    def text():
        return " ".join("".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(6))

    rows = [{"question": text(), "choices": ["a", "b"], "answer": 0} for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"scoring": scoring(", choice_accuracy", "text_nll")},
            [
                "scoring.metrics.2: choice_accuracy needs variants.confirmation_items, but there",
                "scoring.metrics.2: choice_accuracy needs variants.items, but there is none",
                "scoring.finalist_metrics.0: text_nll needs variants.confirmation_items",
            ],
        ),
        (
            {"variants": VARIANTS},
            [
                "variants.items is answered for a metric, but none measures it. Add",
                "variants.confirmation_items is answered for a metric, but none measures it. Add",
            ],
        ),
        (
            {"variants": VARIANTS, "scoring": scoring(finalists="text_nll")},
            ["variants.items is answered for a metric, but none measures it. Add choice_accuracy"],
        ),
        (
            {"variants": VARIANTS, "scoring": scoring(", text_nll", primary="text_nll")},
            ["scoring.primary must be a metric of clips, got text_nll. Make it a constraint"],
        ),
        (
            {
                "variants": "variants: {items: no.jsonl, confirmation_items: b.jsonl}",
                "scoring": scoring(", text_nll"),
            },
            ["variants.items must name something that exists, but there is no"],
        ),
        (
            {
                "variants": VARIANTS,
                "scoring": scoring(", text_nll"),
                "family": "family: voxcpm2\nbase: {source: 'hub:openbmb/VoxCPM2'}",
            },
            ["scoring.metrics.2: a base of voxcpm2 answers no text items. text_nll needs a"],
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(make_spec, tmp_path, sections, expected):
    for seed, name in enumerate("ab"):
        questions(tmp_path / f"{name}.jsonl", seed)
    with pytest.raises(InputError) as error:
        make_spec(**sections)
    told = [f"{each.what}. {each.next_step}" for each in error.value.problems]
    found = [[text for text in told if text.startswith(start)] for start in expected]
    assert [len(each) for each in found] == [1] * len(expected), told


def test_items_are_read_with_all_their_problems_at_once(make_spec, tmp_path):
    write_manifest(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"question": "Which?"}\n{"text": "x"}\n{"text": ""}\n')
    (tmp_path / "b.jsonl").write_text("no\n")
    with pytest.raises(InputError) as error:
        read_inputs(
            make_spec(data=DATA, variants=VARIANTS, scoring=scoring(", choice_accuracy, text_nll"))
        )
    places = [problem.where.rpartition("/")[2] for problem in error.value.problems]
    assert places == ["a.jsonl:1", "a.jsonl:3", "b.jsonl:1"]


def test_sets_of_items_are_disjoint_long_enough_and_not_trained_on(make_spec, tmp_path):
    write_manifest(tmp_path)
    rows = questions(tmp_path / "a.jsonl", 0, 19)
    questions(tmp_path / "b.jsonl", 1)
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    (said, *_) = (row["text"] for row in map(json.loads, lines) if row["split"] == "train")
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write(json.dumps({**rows[3], "question": rows[3]["question"].upper()}) + "\n")
        file.writelines(json.dumps({"text": said}) + "\n" for _ in range(20))
    spec = make_spec(data=DATA, variants=VARIANTS, scoring=scoring(", choice_accuracy", "text_nll"))
    with pytest.raises(InputError) as error:
        read_inputs(spec)
    told = "\n".join(f"{each.where}: {each.what}" for each in error.value.problems)
    assert "b.jsonl:21 and " in told
    assert f"{tmp_path}/a.jsonl:4 (the same but for case" in told
    assert "choice_accuracy needs 20 to 2000 items in set A, got 19" in told
    assert f"b.jsonl:22: set B has texts that are not trained on, got {said!r}" in told


def test_the_plan_counts_answers_and_says_what_a_margin_takes(make_spec, tmp_path):
    write_manifest(tmp_path)
    for seed, (name, count) in enumerate((("a", 20), ("b", 30))):
        questions(tmp_path / f"{name}.jsonl", seed, count)
    spec = make_spec(
        data=DATA,
        variants=VARIANTS,
        scoring=scoring(", choice_accuracy", constraints="{metric: choice_accuracy, margin: 0.02}"),
    )
    found = read_inputs(spec)
    assert (len(found.items), found.items[0].id) == (20, "item-a-0001")
    planned = plan(spec, found, LocalStorage(tmp_path / "st"))
    assert (planned.items, planned.confirmation_items) == (20, 30)
    adapted = planned.most_variants - 1
    assert planned.most_answers == (1 + adapted) * 20 + (1 + 3) * 30
    (told,) = [each for each in planned.weak_rules if each.startswith("choice_accuracy")]
    assert "by 30 items of set B" in told
    assert "1583 items or a margin of 0.15" in told
