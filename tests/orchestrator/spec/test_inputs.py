"""What a spec points to is checked before anything is spent."""

import json

import pytest

from jobs.embedded import VOICE_DIR
from jobs.metrics.references import MIN_REFERENCES
from jobs.problems import InputError
from orchestrator.spec import inputs
from orchestrator.spec.inputs import read_inputs


@pytest.fixture
def reads_any_text(monkeypatch):
    """A base that reads prompts of any words, in place of the embedded one, which reads digits."""
    monkeypatch.setattr(inputs, "open_text", lambda host: lambda text, language: 1)


def manifest_with(held_out: int, path) -> None:
    rows = [json.loads(row) for row in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row["audio"] = str(VOICE_DIR / row["audio"])
        row["split"] = "validation" if index < held_out else "train"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_similarity_needs_enough_held_out_clips(make_spec, tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    manifest_with(MIN_REFERENCES, manifest)
    spec = make_spec(data=f"data: {{synthetic: true, manifest: manifest.jsonl, root: {VOICE_DIR}}}")
    assert "similarity" in spec.scoring.measured
    assert len(read_inputs(spec).clips) > MIN_REFERENCES
    manifest_with(MIN_REFERENCES - 1, manifest)
    with pytest.raises(InputError, match="10 validation clips of 'slt', but there are 9"):
        read_inputs(spec)


@pytest.mark.usefixtures("reads_any_text")
def test_a_tag_needs_the_language_of_every_prompt(make_spec, tmp_path):
    """Of both sets, told together."""
    for name, told in (("a", 7), ("b", 0)):
        prompts = [
            {"id": f"{name}{i}", "text": f"{name} {i}", "language": "km" if i < told else None}
            for i in range(8)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    rows = [json.loads(row) for row in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    told = [
        json.dumps({**row, "audio": str(VOICE_DIR / row["audio"]), "language": "en"})
        for row in rows
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(told))
    data = f"synthetic: true, manifest: clips.jsonl, root: {VOICE_DIR}"
    sections = {
        "scoring": "scoring: {metrics: [word_error], primary: word_error, min_effect: 0.05}",
        "variants": "variants: {prompts: a.jsonl, confirmation_prompts: b.jsonl}",
    }
    read_inputs(make_spec(**sections, data=f"data: {{{data}}}"))
    with pytest.raises(InputError) as error:
        read_inputs(make_spec(**sections, data=f"data: {{{data}, language_tag: true}}"))
    assert [problem.where for problem in error.value.problems] == [
        str(tmp_path / "a.jsonl"),
        str(tmp_path / "b.jsonl"),
    ]
    assert "every prompt, but 'a7' has none" in error.value.problems[0].what
    assert "every prompt, but 'b0' has none" in error.value.problems[1].what


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            "{name: wavlm_similarity, required: false}",
            "wavlm_similarity needs 10 validation clips of 'slt', but there are 9",
        ),
        (
            "{name: whisper_word_error, required: false}",
            "whisper_word_error must know the language, but prompt 'b0' has none",
        ),
        ("{name: whisper_word_error, language: en, required: false}", None),
    ],
)
@pytest.mark.usefixtures("reads_any_text")
def test_what_finalists_are_measured_by_has_what_it_needs(make_spec, tmp_path, entry, problem):
    prompts = [{"id": f"b{i}", "text": f"fresh {i}"} for i in range(8)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    manifest_with(MIN_REFERENCES - 1, tmp_path / "manifest.jsonl")
    spec = make_spec(
        scoring=f"scoring:\n  primary: word_error\n  min_effect: 0.05\n  metrics: [word_error]\n"
        f"  finalist_metrics: [{entry}]",
        data=f"data: {{synthetic: true, manifest: manifest.jsonl, root: {VOICE_DIR}}}",
        variants="variants: {confirmation_prompts: b.jsonl}",
    )
    if problem is None:
        assert len(read_inputs(spec).confirmation) == 8
        return
    with pytest.raises(InputError) as caught:
        read_inputs(spec)
    assert [found.what for found in caught.value.problems] == [problem]


def target(folder, count=24, **keys) -> str:
    """A manifest in ``folder`` of clips of the shipped voice, every fourth held out."""
    rows = [json.loads(row) for row in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    lines = []
    for index, row in enumerate(rows[:count]):
        row["audio"] = str(VOICE_DIR / row["audio"])
        row["split"] = "train" if index % 4 else "validation"
        row |= {key: values[index % len(values)] for key, values in keys.items()}
        lines.append(json.dumps({key: value for key, value in row.items() if value is not None}))
    path = folder / f"{'-'.join(keys) or 'plain'}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path.name


WORD_ERROR = "scoring: {metrics: [word_error], primary: word_error, min_effect: 0.05}"


def problems_of(spec) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_inputs(spec)
    return [str(problem) for problem in caught.value.problems]


def test_problems_of_the_clips_and_of_the_prompts_come_together(make_spec, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    bad = [{"audio": "gone.wav", "text": "one <laugh>", "split": "train"}, {"text": "one"}]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad))
    spec = make_spec(
        data="data: {synthetic: true, manifest: bad.jsonl}",
        variants="variants: {prompts: prompts.jsonl}",
    )
    told = "\n".join(problems_of(spec))
    for place in ("bad.jsonl:1: audio must exist", "bad.jsonl:2", "prompts.jsonl:1"):
        assert f"{tmp_path}/{place}" in told


def test_several_manifests_are_one_target(make_spec, tmp_path):
    names = [target(tmp_path, 12, speaker=["ada"]), target(tmp_path, 12, language=["en"])]
    spec = make_spec(
        data=f"data: {{synthetic: true, manifest: {json.dumps(names)}, root: {VOICE_DIR}, "
        "bad_clips: drop}",
        scoring=WORD_ERROR,
    )
    inputs = read_inputs(spec)
    # The same clips: those of the second are the ones that stand twice.
    assert (len(inputs.clips), inputs.dropped) == (12, 12)
    assert {finding.rule for finding in inputs.warnings} == {"duplicate-clip"}
    assert {clip.row.speaker for clip in inputs.clips} == {"ada"}


@pytest.mark.usefixtures("reads_any_text")
def test_repeated_texts_are_told_with_both_lines(make_spec, tmp_path):
    """Of set A and of training in set B: refused. Near-duplicates within a set: told."""
    long = "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich"
    texts = {
        "a": [f"text {i}" for i in range(8)] + [long],
        "b": [f"fresh {i}" for i in range(8)],
    }
    digits = json.loads((VOICE_DIR / "manifest.jsonl").read_text().splitlines()[3])
    assert digits["split"] == "train"
    texts["b"] += ["Te\u200bxt 3!", digits["text"].title() + ".", "zero one", "Zero 1"]
    texts["b"] += [f"{long[:-5]}Strand", "Franz jagt im Taxi quer durch Bayern heute"]
    texts["b"] += ["Franz jagt im Taxi quer durch Bayern gestern"]

    def write():
        for name, of in texts.items():
            prompts = [{"id": f"{name}{i}", "text": text} for i, text in enumerate(of)]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, prompts)))

    write()
    spec = make_spec(variants="variants: {prompts: a.jsonl, confirmation_prompts: b.jsonl}")
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    same = "the same but for case, punctuation, spaces, or digits and number words"
    refused = problems_of(spec)
    assert refused[0] == (
        f"{b}: set B has texts that set A has not, got {texts['b'][8]!r} at {b}:9 and 'text 3' at "
        f"{a}:4 ({same}). Write another text."
    )
    assert f"at {b}:13 and {long!r} at {a}:9 (" in refused[1]
    assert refused[2] == (
        f"{b}:10: set B has texts that are not trained on, got {texts['b'][9]!r} and "
        f"{digits['text']!r} at {VOICE_DIR / 'manifest.jsonl'}:4 ({same}). "
        "Write another text, or take that clip out."
    )
    assert len(refused) == 3
    del texts["b"][12], texts["b"][9], texts["b"][8]
    write()
    told = [str(problem) for problem in read_inputs(spec).near_duplicates]
    assert told[0] == (
        f"{b}:10: near-duplicates count as one prompt, got 'Zero 1' and 'zero one' at {b}:9 "
        f"({same}). Write another text, or leave it at that."
    )
    assert told[1].startswith(f"{b}:12: near-duplicates count as one prompt, got 'Franz")
    assert len(told) == 2


def test_prompts_that_the_base_cannot_read_are_refused_before_the_sweep(make_spec, tmp_path):
    lines = ['{"id": "a1", "text": "one two"}', '{"id": "a2", "text": "hello"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    problems = problems_of(make_spec(variants=f"variants: {{prompts: {tmp_path / 'a.jsonl'}}}"))
    (problem,) = [each for each in problems if "must be able to read" in each]
    assert "a.jsonl:2" in problem
    assert "prompt 'a2', but: text must be digits or the words" in problem


def test_progress_is_told(make_spec):
    told = []
    read_inputs(make_spec(), lambda done, total: told.append((done, total)))
    assert told[-1] == (470, 470)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            "target: bee",
            "data.target: data.target must be a speaker of the clips, got 'bee'. Did you mean bea?",
        ),
        (
            "mixes: {even: {by: speaker, shares: {ada: 1, adda: 2}}}",
            "data.mixes.even: shares must name a speaker of the training clips, got 'adda'. "
            "Did you mean ada?",
        ),
        (
            "mixes: {even: {by: language, temperature: 2}}",
            "data.mixes.even: a mix by language needs a language for each training clip, but "
            "{folder}/speaker.jsonl:2 and 17 more have none. Add the key language to the manifest.",
        ),
        ("target: ada, mixes: {even: {by: speaker, shares: {ada: 1, bea: 2}}}", None),
    ],
)
def test_speakers_and_languages_that_are_asked_for_are_there(make_spec, tmp_path, data, problem):
    name = target(tmp_path, speaker=["ada", "bea", "bea"])
    spec = make_spec(
        data=f"data: {{synthetic: true, manifest: {name}, root: {VOICE_DIR}, {data}}}",
        scoring=WORD_ERROR,
    )
    if problem is None:
        assert len(read_inputs(spec).clips) == 24
    else:
        assert problems_of(spec) == [problem.replace("{folder}", str(tmp_path))]
