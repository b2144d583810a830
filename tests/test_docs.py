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
    least = "name: mixes\nfamily: codec_lm\nscoring: {metrics: [similarity], primary: similarity}\n"
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


def test_every_link_leads_somewhere():
    links = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text())
        if "://" not in target
    ]
    assert len(links) > 10
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []
