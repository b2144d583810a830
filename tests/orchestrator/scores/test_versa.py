"""VERSA's rows in our names, its failures counted, and a verdict from its files."""

import json
from pathlib import Path

import pytest

from jobs.metrics.base import ClipScores
from jobs.problems import InputError
from orchestrator.scores.from_files import judge_files
from orchestrator.scores.versa import VersaRow, complete, read_row, to_our_names
from orchestrator.verdict.protocol import Gates, Listening, MetricVersion, Prompt, Protocol

HEALTHY = {"end_of_speech_failure": 0.0, "duration": 2.0, "tail_silence": 0.1, "clipping": 0.0}
BOUNDS = {
    "dnsmos_p808": ("higher", 1.0, 5.0),
    "whisper_word_error": ("lower", 0.0, 1.0),
    "spk_similarity": ("higher", -1.0, 1.0),
    "end_of_speech_failure": ("lower", 0.0, 1.0),
    "duration": ("neither", 0.0, 600.0),
    "tail_silence": ("lower", 0.0, 600.0),
    "clipping": ("lower", 0.0, 1.0),
}
A, B = [f"a{i}" for i in range(3)], [f"b{i}" for i in range(8)]


def versa(**values):
    return to_our_names(VersaRow("base.jsonl:1", "base", "a0", values))


def wer(delete, insert, replace, equal, kind="wer"):
    counts = {"delete": delete, "insert": insert, "replace": replace, "equal": equal}
    return {f"whisper_{kind}_{name}": count for name, count in counts.items()}


def test_names_are_ours_where_we_have_one():
    row = {
        "dns_overall": 2.89,
        "dns_p808": 3.64,
        "plcmos": 4,
        "utmosv2": 3.1,
        "spk_similarity": 0.7,
        "utmos": 4.2,
        "whisper_hyp_text": "one two",
        "ref_text": "one two",
        "emotion": ["calm"],
    }
    assert versa(**row) == (
        {
            "dnsmos_ovrl": 2.89,
            "dnsmos_p808": 3.64,
            "plcmos": 4.0,
            "utmosv2": 3.1,
            "spk_similarity": 0.7,
            "utmos": 4.2,
        },
        {},
    )


def test_edits_are_counted_as_ours_are():
    values, failures = versa(**wer(1, 2, 3, 6), **wer(0, 9, 1, 2, kind="cer"))
    assert failures == {}
    assert values == {
        "whisper_word_error": 0.6,  # 6 edits of 10 words
        "whisper_word_edits": 6.0,
        "whisper_word_count": 10.0,
        "whisper_character_error": 1.0,  # 10 edits of 3 letters
        "whisper_character_edits": 10.0,
        "whisper_character_count": 3.0,
    }


@pytest.mark.parametrize(
    ("row", "failures"),
    [
        ({"dns_p808": None}, {"dnsmos_p808": "VERSA wrote null for dns_p808"}),
        ({"dns_p808": float("nan")}, {"dnsmos_p808": "VERSA wrote nan for dns_p808"}),
        (
            {"pseudo_mos": None},
            dict.fromkeys(
                ("dnsmos_ovrl", "dnsmos_p808", "plcmos", "utmosv2"),
                "VERSA wrote null for pseudo_mos",
            ),
        ),
        ({"nisqa": None}, {"nisqa": "VERSA wrote null for nisqa"}),
        (
            {**wer(1, 0, 0, 2), "whisper_wer_insert": None},
            dict.fromkeys(
                ("whisper_word_error", "whisper_word_edits", "whisper_word_count"),
                "VERSA wrote null for insert of whisper_wer",
            ),
        ),
        (
            wer(0, 3, 0, 0),
            dict.fromkeys(
                ("whisper_word_error", "whisper_word_edits", "whisper_word_count"),
                "VERSA had no text to compare with, count 0 of whisper_wer",
            ),
        ),
    ],
)
def test_what_failed_has_its_reason_and_no_value(row, failures):
    assert versa(**row) == ({}, failures)


def test_a_suite_that_failed_takes_words_and_characters_with_it():
    _, failures = versa(whisper_wer=None)
    assert len(failures) == 6
    assert set(failures.values()) == {"VERSA wrote null for whisper_wer"}


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"key": 3}', '{"key": "a0", "variant": "base", "prompt": "a0"}']
)
def test_what_is_not_versas_is_left_to_others(line):
    assert read_row(Path("base.jsonl"), 1, line) is None


@pytest.mark.parametrize(
    ("key", "prompt"),
    [("a0", "a0"), ("a0.wav", "a0"), ("a0.FLAC", "a0"), ("b.wav", "b.wav"), ("a0.v2", "a0.v2")],
)
def test_a_key_is_a_prompt_or_its_clips_file(key, prompt):
    clips, problems = complete(
        [], [VersaRow("f:1", "base", key, {"x": 1, "y": 2})], ["a0", "b.wav"], ["x"]
    )
    assert problems == []
    assert clips == [ClipScores("base", prompt, 0, {"x": 1.0})]


def test_scores_of_the_same_clip_are_put_together():
    ours = ClipScores("base", "a0", 7, {"duration": 2.0}, {"level": "silence"})
    rows = [
        VersaRow("dns/base.jsonl:1", "base", "a0", {"dns_p808": 3.0}),
        VersaRow("wer/base.jsonl:1", "base", "a0.wav", {"utmos": None}),
    ]
    clips, problems = complete([ours], rows, ["a0"], ["dnsmos_p808", "utmos"])
    assert problems == []
    assert clips == [
        ClipScores(
            "base",
            "a0",
            7,
            {"duration": 2.0, "dnsmos_p808": 3.0},
            {"level": "silence", "utmos": "VERSA wrote null for utmos"},
        )
    ]


def test_a_score_that_is_there_twice_is_told():
    rows = [VersaRow(f"f:{n}", "base", "a0", {"dns_p808": 3.0}) for n in (1, 2)]
    _, problems = complete([], rows, ["a0"], ["dnsmos_p808"])
    assert problems == [
        ("f:2", "a clip is scored once by each metric, got dnsmos_p808 again for 'a0'")
    ]
    clips = [ClipScores("base", "a0", seed, {}) for seed in (0, 1)]
    _, problems = complete(clips, rows[:1], ["a0"], ["dnsmos_p808"])
    assert problems == [("f:1", "VERSA says no seed, but 'base' speaks 'a0' with several")]


@pytest.fixture
def protocol(tmp_path):
    rule = Protocol(
        prompt_set="a",
        prompts=tuple(Prompt(id=name, text=name) for name in A),
        shortlist_after=None,
        seed=3,
        confirmation_set="b",
        confirmation=tuple(Prompt(id=name, text=name) for name in B),
        confirmation_seed=4,
        lora_scales=(0.0, 1.0),
        temperature=0.0,
        top_k=50,
        primary="dnsmos_p808",
        min_effect=0.05,
        significance=0.05,
        constraints=(),
        gates=Gates(),
        metrics=tuple(
            MetricVersion(name=n, version="versa c398480", unit="x", direction=d, low=lo, high=hi)
            for n, (d, lo, hi) in BOUNDS.items()
        ),
        finalists=1,
        finalist_metrics=(),
        listening=Listening(),
        bootstrap_resamples=1000,
        confidence=0.95,
        family_digests={},
    )
    path = tmp_path / "protocol.json"
    path.write_text(rule.model_dump_json())
    return path


def write(folder, variant, quality, **lacking):
    """A sweep's own rows without the quality, and VERSA's file with it."""
    (folder / "versa").mkdir(parents=True, exist_ok=True)
    (folder / "ours").mkdir(exist_ok=True)
    ours, theirs = [], []
    for at, prompt in enumerate([*A, *B]):
        seed = 3 if prompt in A else 4
        ours.append({"variant": variant, "prompt": prompt, "seed": seed, **HEALTHY})
        row = {"key": f"{prompt}.wav", "dns_p808": quality + at / 100, "spk_similarity": 0.9}
        theirs.append({**row, **wer(0, 0, 1, 3), **lacking.get(prompt, {})})
    for name, rows in (("ours", ours), ("versa", theirs)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / f"{variant}.jsonl").write_text(text)


def test_a_verdict_from_versas_files(tmp_path, protocol):
    scores = tmp_path / "scores"
    write(scores, "base", 3.0)
    write(scores, "tuned", 3.4, a1={"dns_p808": float("nan")}, a2={"whisper_wer_equal": None})
    verdict, table = judge_files(scores, protocol, None)
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "tuned")
    assert verdict.effect.mean == pytest.approx(0.4)
    assert table.values["base"]["spk_similarity"].tolist() == [0.9] * 3
    assert table.values["base"]["whisper_word_error"].tolist() == [0.25] * 3
    assert table.missing["tuned"] == {
        "dnsmos_p808": {("a1", 3): "VERSA wrote nan for dns_p808"},
        "whisper_word_error": {("a2", 3): "VERSA wrote null for equal of whisper_wer"},
    }
    assert table.values["tuned"]["dnsmos_p808"][1] == 1.0  # the worst there is
    assert {row.id: row.failures.unscored for row in verdict.rows} == {"base": 0, "tuned": 1}


def test_what_cannot_be_put_together_stops_the_judgement(tmp_path, protocol):
    scores = tmp_path / "scores"
    write(scores, "base", 3.0)
    again = scores / "again" / "base.jsonl"
    again.parent.mkdir()
    again.write_text('{"key": "a0", "dns_p808": 3.0}\n')
    with pytest.raises(InputError, match=r"base\.jsonl:1: a clip is scored once by each metric"):
        judge_files(scores, protocol, None)
