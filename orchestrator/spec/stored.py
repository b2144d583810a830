"""The spec, protocol and verdict in a sweep's folder."""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from jobs.problems import InputError, Problem
from jobs.spec.strict import validation_problems
from jobs.spec.yaml_files import dump_yaml, load_yaml
from orchestrator.ledger import (
    CLIPS_FILE,
    PLAN_FILE,
    PROTOCOL_FILE,
    SCREEN,
    SPEC_FILE,
    VERDICT_FILE,
    Ledger,
)
from orchestrator.spec.model import ITEM_SETS, MAY_CHANGE, SweepSpec, without_places
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol

if TYPE_CHECKING:
    from orchestrator.spec.inputs import Inputs  # imports what reads audio


def store_spec(ledger: Ledger, spec: SweepSpec, inputs: "Inputs") -> None:
    """Write the spec and its plan into the sweep's folder, or check that the one there goes on.

    Keys that do not change results may differ, and a sweep may grow (docs/spec.md); then the new
    spec replaces the old, and trials that may train longer are recorded so.

    Raises:
        InputError: as :func:`refuse_changes`.
    """
    refuse_changes(ledger, spec, inputs)
    ledger.write_text(CLIPS_FILE, "".join(f"{each}\n" for each in _clip_digests(inputs)))
    ledger.write_text(SPEC_FILE, dump_yaml(spec.model_dump(mode="json")))
    if _length_may_grow(spec):
        ledger.lengthen_trials(spec.training)
    from orchestrator.spec.plan import plan  # with scipy: whoever reads what is stored would wait

    planned = plan(spec, inputs, ledger.storage)
    ledger.write_text(PLAN_FILE, json.dumps(asdict(planned), indent=2) + "\n")


def refuse_changes(ledger: Ledger, spec: SweepSpec, inputs: "Inputs") -> None:
    """That a run of ``spec`` on ``inputs`` would go on with what the sweep's folder has.

    Raises:
        InputError: a sweep of this name was started with another spec, or on other clips.
    """
    with of_this_version(ledger):
        known = stored_spec(ledger)
    if known is None or not _is_begun(ledger):
        return
    where = f"{ledger.storage.url}/{ledger.path(SPEC_FILE)}"
    changes = [
        *_changes(known, spec),
        *_prompt_changes(ledger, spec, inputs),
        *_clip_changes(ledger, inputs),
    ]
    if problems := [
        Problem(where, f"sweep {spec.name!r} was started with other {what}", step)
        for what, step in changes
    ]:
        raise InputError(problems)


_LONGEST_VALUE = 120
"""Characters of a value in a message."""
_RENAME = "Give the changed spec another name."


def _is_begun(ledger: Ledger) -> bool:
    """Whether anything was made by the spec: a run that died before claims no name."""
    spoken = ledger.storage.children(ledger.path("clips", SCREEN))
    has_clips = any(ledger.storage.is_committed(ledger.clips(name)) for name in spoken)
    return has_clips or ledger.read_text(PROTOCOL_FILE) is not None or bool(ledger.trials())


def _clip_digests(inputs: "Inputs") -> dict[str, str]:
    """A digest of what is learned of each clip, with the clip's place; files may be moved."""
    digests: dict[str, str] = {}
    for clip in inputs.clips:
        row = clip.row
        learned = json.dumps([clip.pcm, row.text, row.split, row.speaker, row.language])
        digest = hashlib.blake2b(learned.encode(), digest_size=8).hexdigest()
        digests.setdefault(digest, row.where)
    return digests


def _clip_changes(ledger: Ledger, inputs: "Inputs") -> Iterator[tuple[str, str]]:
    """Clips whose sound, text, split, speaker or language the sweep's trials have not seen so."""
    stored = ledger.read_text(CLIPS_FILE)
    if stored is None:
        return
    before, now = set(stored.split()), _clip_digests(inputs)
    new = [where for digest, where in now.items() if digest not in before]
    gone = len(before - now.keys())
    if new or gone:
        first = f", first at {new[0]}" if new else ""
        yield (
            f"clips: {len(new)} of {len(now)} are new or changed{first}, and {gone} are gone",
            _RENAME,
        )


def _changes(known: SweepSpec, spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """The keys by which ``spec`` is another sweep than ``known``, each with the next step."""
    # With today's defaults for keys that the version that wrote it did not have. What files hold
    # is compared by digests, which stand in the protocol and in the trials' ids.
    for key, old, new in differences(without_places(known), without_places(spec)):
        if key.partition(".")[0] in MAY_CHANGE:
            continue
        what, grows = f"{key} ({_short(old)}, now {_short(new)})", _GROWS.get(key)
        if grows is None:
            yield what, _RENAME
        elif not grows(old, new):
            yield what, f"It may only grow. {_RENAME}"
        elif key in _LENGTHS and not _length_may_grow(spec):
            step = "It may grow where it is not searched and every schedule is constant."
            yield what, f"{step} {_RENAME}"


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 (JSON)
    """The innermost keys in which two JSON documents differ, with both values; None is absent."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield key, old, new
        return
    for name in dict.fromkeys((*new, *old)):
        yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)


def protocol_changes(known: Protocol, new: Protocol) -> Iterator[str]:
    """The keys in which a sweep's protocol no longer agrees with the one it began with."""
    from orchestrator.verdict.confirm import differing_keys  # with scipy, as the plan above

    names = set(differing_keys(known, new)) or {"prompts"}
    before, after = (each.model_dump(mode="json", include=names) for each in (known, new))
    for key, old, now in differences(before, after):
        yield f"{key} ({_short(old)}, now {_short(now)})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _prompt_changes(ledger: Ledger, spec: SweepSpec, inputs: "Inputs") -> Iterator[tuple[str, str]]:
    """By which prompts the sets of ``inputs`` are others than those that the sweep has scored."""
    with of_this_version(ledger):
        known = stored_protocol(ledger)
    if known is None:
        return
    new_a, old_a = [p.model_dump() for p in inputs.prompts], [p.model_dump() for p in known.prompts]
    fixed = [p.model_dump() for p in known.confirmation]
    if new_a[: len(old_a)] != old_a:
        yield "variants.prompts", f"Prompts may only be added, after those there. {_RENAME}"
    elif len(new_a) > len(old_a) and (known.shortlist_after or math.inf) > len(old_a):
        step = "Prompts may be added where variants.shortlist_after is at most their number before."
        yield f"variants.prompts ({len(old_a)}, now {len(new_a)})", f"{step} {_RENAME}"
    if [p.model_dump() for p in inputs.confirmation] != fixed:
        step = "Set B decides once, so it cannot change."
        yield "variants.confirmation_prompts", f"{step} {_RENAME}"
    for key in ITEM_SETS:
        if tuple(getattr(inputs, key)) != getattr(known, key):
            yield f"variants.{key}", f"Items cannot change. {_RENAME}"


def _length_may_grow(spec: SweepSpec) -> bool:
    """Whether a longer training has the same weights at the same step, and so the same id."""
    searched = spec.search.space
    schedules = searched["schedule"].choices if "schedule" in searched else ()
    is_fixed = not {"epochs", "steps"} & searched.keys()
    return is_fixed and set(schedules or (spec.training.schedule,)) == {"constant"}


def _is_longer(old: int | None, new: int | None) -> bool:
    """Not where one of the two counts otherwise."""
    return old is not None and new is not None and old < new


_LENGTHS = ("training.epochs", "training.steps")
_GROWS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(_LENGTHS, _is_longer),
    "search.trials": operator.lt,
    "search.confirm_seeds": operator.lt,
    "scoring.finalists": operator.lt,
    "variants.lora_scales": lambda old, new: set(old) <= set(new),
}
"""Keys with which a sweep may grow, each with what compares its old value and its new one."""


def stored_spec(ledger: Ledger) -> SweepSpec | None:
    """The sweep's spec; None before it has started.

    Raises:
        ValidationError: another version of voxsweep wrote it.
    """
    text = ledger.read_text(SPEC_FILE)
    return None if text is None else SweepSpec.model_validate(load_yaml(text))


def require_spec(ledger: Ledger) -> SweepSpec:
    """The sweep's spec.

    Raises:
        InputError: the storage has no such sweep, or another version of voxsweep wrote it.
    """
    try:
        with of_this_version(ledger):
            spec = stored_spec(ledger)
    except ValueError:
        spec = None  # no name of a sweep, such as ../x
    if spec is None:
        what = f"must hold the sweep {ledger.sweep!r}, but there is no {ledger.sweep}/{SPEC_FILE}"
        step = "Correct the name, or name the --storage that holds it."
        raise InputError([Problem(ledger.storage.url, what, step)])
    return spec


@contextmanager
def of_this_version(ledger: Ledger) -> Iterator[None]:
    """Raises InputError for documents that another version of voxsweep wrote."""
    try:
        yield
    except ValidationError as error:
        step = "Another version of voxsweep wrote it: use that one."
        raise InputError(validation_problems(error, ledger.sweep, step)) from None


def stored_protocol(ledger: Ledger) -> Protocol | None:
    """The sweep's protocol; None before its first score."""
    text = ledger.read_text(PROTOCOL_FILE)
    return None if text is None else Protocol.model_validate_json(text)


def stored_verdict(ledger: Ledger) -> Verdict | None:
    """The sweep's verdict; None before its end."""
    text = ledger.read_text(VERDICT_FILE)
    return None if text is None else Verdict.from_json(text)
