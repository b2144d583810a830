"""The documents name what there is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel

from jobs.data.order.mix import epoch_counts
from jobs.families.layout import Layout
from orchestrator.spec.model import SweepSpec

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every key, those of lists' items left out."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        elif not any(isinstance(a, type) and issubclass(a, BaseModel) for a in get_args(inner)):
            yield f"{prefix}{name}"


def test_the_spec_page_has_every_key():
    text = (ROOT / "docs" / "spec.md").read_text()
    names = list(keys(SweepSpec))
    assert len(names) > 40
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_mixes_of_the_data_page_are_a_spec(tmp_path):
    """And their arithmetic is what an epoch has."""
    text = (ROOT / "docs" / "data.md").read_text()
    (written,) = re.findall(r"```yaml\n(.*?)```", text.partition("## Mixes")[2], re.DOTALL)
    least = (
        "name: mixes\nfamily: codec_lm\nscoring: {metrics: [similarity], primary: similarity, "
        "min_effect: 0.05}\n"
    )
    spec = SweepSpec.model_validate(yaml.safe_load(least + written))
    assert spec.mixes == ("single", "mixed", "even", None)
    assert {name for name in spec.mixes if name} == set(spec.data.mixes)
    clips = {"km": 3345, "ko": 14092}
    mixed = epoch_counts(spec.data.mixes["mixed"], clips)
    assert mixed == {"km": 9395, "ko": 14092}
    for number in (*clips.values(), *mixed.values(), sum(mixed.values()), 9395 - 2 * 3345):
        assert f"{number:,}" in text
    assert epoch_counts(spec.data.mixes["single"], clips) == {"km": 3345}


def test_the_layout_of_the_codec_lm_page_is_one():
    text = (ROOT / "docs" / "codec-lm.md").read_text()
    (written,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert Layout.model_validate_json(written).markers is None
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    assert set(Layout.model_fields) <= {*keys}


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives its headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_link_leads_somewhere():
    links = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text())
        if "://" not in target
    ]
    assert len(links) > 60
    for document, target in links:
        file, _, anchor = target.partition("#")
        page = document.parent / file if file else document
        assert page.exists(), (document.name, target)
        assert not anchor or anchor in anchors(page), (document.name, target)


FOLDERS = "benchmarks|cluster|configs|docs|jobs|k8s|orchestrator|tests|tools"
FILE_TYPES = "html|md|py|toml|txt|yaml"
WRITTEN_BY_A_SWEEP = {"report.html", "spec.yaml"}
"""Files that a sweep writes and the repository has not."""
OF_OTHERS = {"ray.io_rayjobs.yaml", "README.txt", ".normalized.txt", ".wav.txt", ".trans.txt"}
"""Files that another project ships, or that a data set has."""
PAGES = [*DOCUMENTS, *ROOT.glob("benchmarks/*.md"), *ROOT.glob("configs/**/*.yaml")]


def test_every_path_exists():
    """Of what begins with a folder of the repository; ``mine`` is the reader's own overlay."""
    paths = [
        (page.name, path)
        for page in PAGES
        for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w", page.read_text())
        if "/mine" not in path
    ]
    assert len(paths) > 150
    assert [(page, path) for page, path in paths if not (ROOT / path).exists()] == []


def test_every_file_name_exists():
    """Of names in backticks without a folder."""
    names = [
        (page.name, name)
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", page.read_text())
        for name in re.findall(rf"(?<!\S)[\w.]+\.(?:{FILE_TYPES})(?!\S)", code)
    ]
    there = {path.name for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.*")}
    there |= {path.name for path in ROOT.iterdir()} | WRITTEN_BY_A_SWEEP | OF_OTHERS
    assert len(names) > 30
    assert [(page, name) for page, name in names if name not in there] == []


def test_every_module_exists():
    """Of dotted names below a package, what a module defines included."""
    dotted = [
        (page.name, name)
        for page in PAGES
        for name in re.findall(
            r"(?<![\w/.-])(?:cluster|jobs|orchestrator|tests|tools)(?:\.[A-Za-z_]\w*)+",
            page.read_text(),
        )
        if not name.endswith(".md")
    ]
    dotted += [
        (page.name, f"{module}.{name.strip()}")
        for page in PAGES
        for module, names in re.findall(
            r"^from ((?:cluster|jobs|orchestrator)[\w.]+) import (.+)$",
            page.read_text(),
            re.MULTILINE,
        )
        for name in names.split(",")
    ]
    assert len(dotted) > 15
    assert [(page, name) for page, name in dotted if not defined(name)] == []


def defined(name: str) -> bool:
    """Whether there is a module of that name, or one that defines its last part."""
    module = ROOT.joinpath(*name.split("."))
    if module.is_dir() or module.with_suffix(".py").exists():
        return True
    source = module.parent.with_suffix(".py")
    return source.exists() and re.search(rf"\b{module.name}\b", source.read_text()) is not None


NAMES_OF_OTHERS = {
    "JobStatusCheckTimeoutExceeded",  # KubeRay's reason
    "whisper_wer_delete",  # VERSA's keys, whose ends the code adds
    "whisper_cer_delete",
}


def test_every_name_is_in_the_code():
    """Of classes, functions and keys in backticks; the changelog names former ones too."""
    sources = [
        path
        for folder in FOLDERS.split("|")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".py", ".yaml", ".html"} and path != Path(__file__)
    ]
    there = {word for path in sources for word in re.findall(r"\w+", path.read_text())}
    named = [
        (page.name, part)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for name in re.findall(r"`([A-Za-z]\w*(?:\.\w+)*)(?:\(.*?\))?`", page.read_text())
        if re.search(r"[a-z]_[a-z]|[a-z][A-Z]", name) and not name.endswith((".md", ".py"))
        for part in name.split(".")
    ]
    assert len(named) > 300
    missing = [(page, name) for page, name in named if name not in there | NAMES_OF_OTHERS]
    assert missing == []
