"""What the variants of a sweep are, as lines of ``variants.jsonl``."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from pydantic import TypeAdapter

from orchestrator.verdict.table import VariantInfo

VARIANTS = TypeAdapter(VariantInfo)
"""Validates one line."""


def variant_lines(variants: Iterable[VariantInfo]) -> str:
    """What the variants of tables are, as ``judge_files`` reads it."""
    return "".join(json.dumps(asdict(info)) + "\n" for info in variants)


def read_variants(lines: str) -> dict[str, VariantInfo]:
    """The inverse of :func:`variant_lines`, by id.

    Raises:
        ValidationError: a line is no variant.
    """
    infos = map(VARIANTS.validate_json, lines.splitlines())
    return {info.id: info for info in infos}
