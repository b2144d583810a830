"""CPU seconds by stage, in whatever Python process starts with this folder on its path.

Python imports a module of this name when it starts. A stage is a function; its time is the CPU time
of its thread, without that of the stages inside it. Each process appends to a file of its own in
the folder that ``VOXSWEEP_STAGES`` names, whenever an outermost stage ends: workers are killed.
"""

import functools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

STAGES = {
    "jobs.data.prepared.prepare": {"prepare": "prepare"},
    "jobs.training.probe": {"measure": "measure packs"},
    "jobs.training.host": {"Host.step": "train", "Host.end_epoch": "validate"},
    "jobs.families.codec_lm": {"CodecLM.generate": "speak"},
    "jobs.codecs.world": {"WorldCodec.decode": "decode"},
    "jobs.metrics.base": {"score_clip": "score"},
    "orchestrator.scores.from_ledger": {"ScoredSweep.of_epoch": "judge"},
    "orchestrator.verdict.judge": {"judge": "judge"},
    "orchestrator.workers.data_report": {"measure_data": "report"},
    "orchestrator.report.page": {"render": "report"},
}
"""By module, the stage of each function."""
_WHOLE = {"prepare", "measure packs", "report"}
"""Stages whose time is not split: what they call trains, speaks or scores for them."""

_open = threading.local()
_file = os.path.join(os.environ.get("VOXSWEEP_STAGES", ""), f"{os.getpid()}.jsonl")


def _timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        stack = _open.__dict__.setdefault("stack", [])
        if stack and stack[0][0] in _WHOLE:
            return function(*args, **kwargs)
        stack.append([stage, time.thread_time(), 0.0])
        try:
            return function(*args, **kwargs)
        finally:
            _, began, inside = stack.pop()
            seconds = time.thread_time() - began
            spent = _open.__dict__.setdefault("spent", Counter())
            spent[stage] += seconds - inside
            if stack:
                stack[-1][2] += seconds
            else:
                with open(_file, "a") as file:
                    file.write(json.dumps(spent) + "\n")
                spent.clear()

    return call


def _time(module: ModuleType) -> None:
    for path, stage in STAGES[module.__name__].items():
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, name, _timed(stage, getattr(owner, name)))


class _Finder(MetaPathFinder):
    """Has the stages of a module timed once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname in STAGES else None
        if found is not None and found.loader is not None:
            load = found.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                _time(module)

            found.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this module alone
        return found


if "VOXSWEEP_STAGES" in os.environ:
    sys.meta_path.insert(0, _Finder())
