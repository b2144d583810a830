"""A verdict from files alone, and what is said of files that cannot be judged."""

import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jobs.problems import InputError
from orchestrator.scores.from_files import judge_files
from orchestrator.scores.variants import variant_lines
from orchestrator.terminal.results import show_verdict
from orchestrator.verdict.protocol import (
    Constraint,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)
from orchestrator.verdict.table import VariantInfo

METRICS = {
    "similarity": ("higher", -1.0, 1.0, 0.5),
    "end_of_speech_failure": ("lower", 0.0, 1.0, 0.0),
    "duration": ("neither", 0.0, 30.0, 2.0),
    "tail_silence": ("lower", 0.0, 30.0, 0.1),
    "clipping": ("lower", 0.0, 1.0, 0.0),
}


@pytest.fixture
def protocol(tmp_path):
    return write_protocol(tmp_path)


def write_protocol(folder: Path) -> Path:
    rule = Protocol(
        prompt_set="a",
        prompts=tuple(Prompt(id=f"a{i}", text=f"text {i}") for i in range(3)),
        shortlist_after=None,
        seed=0,
        confirmation_set="b",
        confirmation=tuple(Prompt(id=f"b{i}", text=f"fresh {i}") for i in range(8)),
        confirmation_seed=1,
        lora_scales=(1.0,),
        temperature=1.0,
        top_k=1,
        primary="similarity",
        min_effect=0.05,
        significance=0.05,
        constraints=(Constraint(metric="tail_silence", margin=1.0),),
        gates=Gates(),
        metrics=tuple(
            MetricVersion(name=name, version="1", unit="1", direction=d, low=low, high=high)
            for name, (d, low, high, _) in METRICS.items()
        ),
        finalists=1,
        finalist_metrics=(),
        listening=Listening(),
        bootstrap_resamples=1000,
        confidence=0.95,
        family_digests={},
    )
    path = folder / "protocol.json"
    path.write_text(rule.model_dump_json())
    return path


def rows(variant, similarity):
    """Of both sets, without what another tool would leave out."""
    healthy = {name: value for name, (*_, value) in METRICS.items()}
    for prompt in [*(f"a{i}" for i in range(3)), *(f"b{i}" for i in range(8))]:
        score = similarity + int(prompt[1:]) / 100
        yield json.dumps({"variant": variant, "prompt": prompt, **healthy, "similarity": score})


def test_variants_come_back_from_their_file_as_they_were(tmp_path, protocol):
    """With their losses by group; a file of before there were any is read as well."""
    scores = tmp_path / "scores.jsonl"
    rows = [
        {"variant": v, "prompt": f"a{i}", **{name: value[3] for name, value in METRICS.items()}}
        for v in ("base", "new", "old")
        for i in range(3)
    ]
    scores.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups = {"language/km": 1.5, "speaker/Ann B.": 0.25}
    infos = [
        VariantInfo("base", None, 0, 0.0, None, None, None),
        VariantInfo("new", "t1", 2, 0.7, 8, 1e-4, 1.25, groups, "mixed"),
        VariantInfo("old", "t2", 1, 1.0, 4, 2e-4, 1.5),
    ]
    variants = tmp_path / "variants.jsonl"
    lines = [asdict(info) for info in infos]
    del lines[2]["group_losses"], lines[2]["mix"]
    variants.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, table = judge_files(scores, protocol, variants)
    assert [*table.variants.values()] == infos
    variants.write_text(variant_lines(table.variants.values()))
    assert judge_files(scores, protocol, variants)[1].variants == table.variants


def test_replicates_judge_the_recipe_and_are_none_of_the_variants(tmp_path, protocol):
    """They have scores of set B alone, and so has one of an earlier winner."""
    asked = Protocol.model_validate_json(protocol.read_text())
    asked = asked.model_copy(update={"confirm_seeds": 3})
    protocol.write_text(asked.model_dump_json())
    lines = [*rows("base", 0.5), *rows("tuned", 0.7)]
    fresh = {prompt.id for prompt in asked.confirmation}
    names = ("r1", "r2", "r3")
    for name in (*names, "r0"):
        lines += [line for line in rows(name, 0.7) if json.loads(line)["prompt"] in fresh]
    scores, variants = tmp_path / "scores.jsonl", tmp_path / "variants.jsonl"
    scores.write_text("\n".join(lines))
    infos = [VariantInfo("tuned", "t", 2, 0.7, 8, 1e-4, None)]
    infos += [VariantInfo(n, n, 2, 0.7, 8, 1e-4, None, replicate_of="t") for n in names]
    infos.append(VariantInfo("r0", "r0", 1, 0.7, 8, 1e-4, None, replicate_of="earlier"))
    variants.write_text(variant_lines(infos))
    verdict, table = judge_files(scores, protocol, variants)
    assert set(table.variants) == {row.id for row in verdict.rows} == {"base", "tuned"}
    assert verdict.recipe.finding == "better"
    assert [each.variant for each in verdict.recipe.replicates] == [*names]


def test_one_file_of_another_tool_is_enough(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    scores.write_text("\n".join([*rows("base", 0.5), *rows("tuned", 0.7), *rows("worse", 0.3)]))
    verdict, table = judge_files(scores, protocol, None)
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "tuned")
    assert verdict.effect.mean == pytest.approx(0.2)
    assert set(table.variants) == {"base", "tuned", "worse"}


def test_scores_without_set_b_reach_no_verdict(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    both = [*rows("base", 0.5), *rows("tuned", 0.7)]
    scores.write_text("\n".join(row for row in both if '"a' in row))
    assert judge_files(scores, protocol, None)[0].verdict == "NO-VERDICT"


def test_every_bad_line_is_told(tmp_path, protocol):
    scores, variants = tmp_path / "scores.jsonl", tmp_path / "variants.jsonl"
    scores.write_text('{"variant": "base"}\nnot json\n{"variant": "v", "prompt": "a0", "x": "y"}\n')
    variants.write_text('{"id": "v"}\n')
    with pytest.raises(InputError) as caught:
        judge_files(scores, protocol, variants)
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres == [f"{scores}:1", f"{scores}:2", f"{scores}:3", f"{variants}:1"]
    assert caught.value.problems[0].what == "prompt: Field required"


def test_a_score_beyond_its_metric_s_bounds_is_told(tmp_path, protocol):
    """Of voxsweep's lines and of VERSA's; what single precision rounds is no such score."""
    folder = tmp_path / "scores"
    folder.mkdir()
    good = [json.loads(row) for row in rows("base", 0.5)]
    good[0]["similarity"] = 1.0000001
    good[1]["similarity"], good[1]["clipping"] = 1.01, -0.5
    good[2]["duration"] = float("inf")
    (folder / "ours.jsonl").write_text("\n".join(map(json.dumps, good)))
    (folder / "tuned.jsonl").write_text('{"key": "a0.wav", "similarity": -7}\n')
    with pytest.raises(InputError) as caught:
        judge_files(folder, protocol, None)
    assert [(p.where.removeprefix(f"{folder}/"), p.what) for p in caught.value.problems] == [
        ("ours.jsonl:2", "similarity lies in [-1, 1] by the protocol, got 1.01"),
        ("ours.jsonl:2", "clipping lies in [0, 1] by the protocol, got -0.5"),
        ("ours.jsonl:3", "duration lies in [0, 30] by the protocol, got inf"),
        ("tuned.jsonl:1", "similarity lies in [-1, 1] by the protocol, got -7"),
    ]


def test_a_byte_order_mark_and_blank_lines_are_no_scores(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    lines = [*rows("base", 0.5), "", *rows("tuned", 0.7), " \t", ""]
    scores.write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    assert judge_files(scores, protocol, None)[0].variant == "tuned"
    scores.write_text("\n".join([*lines, "not json"]))
    with pytest.raises(InputError, match=f":{len(lines) + 1}: the line"):
        judge_files(scores, protocol, None)


def test_a_variant_of_which_nothing_is_known_is_called_by_its_id(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    scores.write_text("\n".join([*rows("base", 0.5), *rows("tuned-7", 0.7)]))
    verdict, table = judge_files(scores, protocol, None)
    assert verdict.sentence.startswith("Promote tuned-7, once listeners confirm it")
    console = Console(file=StringIO(), width=120)
    show_verdict(console, verdict, table)
    assert "tuned-7" in console.file.getvalue().split("Promote")[0]


def test_scores_that_cannot_be_compared_are_told(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    stranger = json.dumps({"variant": "base", "prompt": "z9", "similarity": 0.5})
    scores.write_text("\n".join([*rows("base", 0.5), stranger]))
    with pytest.raises(InputError, match="a clip's prompt is in the protocol, got 'z9'"):
        judge_files(scores, protocol, None)


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_protocol_that_is_none_is_told(tmp_path, text):
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"p\.json"):
        judge_files(tmp_path / "no.jsonl", path, None)


def rated(path, systems):
    """Eight raters on eight sentences; ``tuned`` is a point better than what is beside it."""
    levels = np.random.default_rng(0).integers(2, 5, (8, 8))
    lines = [
        f"r{rater},b{sentence},{system},{axis},{levels[rater, sentence] + (system == 'tuned')}"
        for rater in range(8)
        for sentence in range(8)
        for system in systems
        for axis in ("naturalness", "prosody", "pronunciation")
    ]
    path.write_text("\n".join(["rater,sentence,system,axis,score", *lines]))
    return path


def test_listeners_ratings_are_part_of_the_verdict(tmp_path, protocol):
    scores = tmp_path / "scores.jsonl"
    scores.write_text("\n".join([*rows("base", 0.5), *rows("tuned", 0.7), *rows("worse", 0.3)]))
    ratings = rated(tmp_path / "ratings.csv", ("base", "tuned"))
    verdict, _ = judge_files(scores, protocol, ratings=ratings)
    (panel,) = verdict.listening
    assert panel.result.difference.mean == pytest.approx(1)
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING", "20 sentences are asked for"
    enough = json.loads(protocol.read_text())
    enough["listening"]["sentences"] = 8
    protocol.write_text(json.dumps(enough))
    assert judge_files(scores, protocol, ratings=ratings)[0].verdict == "PROMOTE"
    other = rated(tmp_path / "other.csv", ("base", "worse"))
    with pytest.raises(InputError, match=r"got 'tuned'.*Have listeners rate the winner"):
        judge_files(scores, protocol, ratings=other)


def test_the_rest_of_set_a_counts_where_only_a_shortlist_said_it(tmp_path, protocol):
    rule = json.loads(protocol.read_text())
    rule["shortlist_after"] = 2
    protocol.write_text(json.dumps(rule))
    scores = tmp_path / "scores.jsonl"
    shortlisted = [*rows("base", 0.5), *rows("tuned", 0.7), *rows("v", 0.4)]
    others = [row for row in rows("w", 0.3) if '"a0"' in row or '"a1"' in row]
    variants = tmp_path / "variants.jsonl"
    facts = {"epoch": 1, "lora_scale": 1.0, "rank": 8, "learning_rate": None}
    infos = [{"id": n, "trial": n, **facts, "validation_loss": None} for n in ("tuned", "v", "w")]
    variants.write_text("\n".join(map(json.dumps, infos)))
    scores.write_text("\n".join([*shortlisted, *others]))
    verdict, table = judge_files(scores, protocol, variants)
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "tuned")
    assert [row.id for row in verdict.shortlisted] == ["tuned", "v"]
    assert set(table.prompts) == {"a0", "a1"}
