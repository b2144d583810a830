"""The words of the pages, in several languages."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES: Mapping[str, str] = {"en": "English", "km": "ខ្មែរ", "ko": "한국어"}
"""By the primary subtag of BCP 47, in their own script."""


@cache
def labels(language: str) -> Mapping[str, Any]:
    """What pages say in a language: the same keys in each."""
    text = (Path(__file__).parent / "labels.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)[language]
    return found
