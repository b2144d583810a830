"""A verdict from files alone, and what is said of files that cannot be judged."""

import json

import pytest

from jobs.problems import InputError
from orchestrator.score_files import judge_files
from orchestrator.verdict.protocol import (
    Constraint,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)

METRICS = {
    "similarity": ("higher", -1.0, 1.0, 0.5),
    "end_of_speech_failure": ("lower", 0.0, 1.0, 0.0),
    "duration": ("neither", 0.0, 30.0, 2.0),
    "tail_silence": ("lower", 0.0, 30.0, 0.1),
    "clipping": ("lower", 0.0, 1.0, 0.0),
}


@pytest.fixture
def protocol(tmp_path):
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
        bootstrap_resamples=200,
        confidence=0.95,
        family_digests={},
    )
    path = tmp_path / "protocol.json"
    path.write_text(rule.model_dump_json())
    return path


def rows(variant, similarity):
    """Of both sets, without what another tool would leave out."""
    healthy = {name: value for name, (*_, value) in METRICS.items()}
    for prompt in [*(f"a{i}" for i in range(3)), *(f"b{i}" for i in range(8))]:
        score = similarity + int(prompt[1:]) / 100
        yield json.dumps({"variant": variant, "prompt": prompt, **healthy, "similarity": score})


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
