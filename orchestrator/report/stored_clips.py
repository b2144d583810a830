"""The clips that a page plays, out of the sweep's storage."""

from contextlib import suppress

from jobs.speech.clips import clip_name
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger
from orchestrator.report.clip_selection import select_clips
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import ScoreTable


def stored_clips(
    ledger: Ledger, verdict: Verdict, table: ScoreTable, protocol: Protocol
) -> dict[str, dict[str, bytes]]:
    """FLAC files by variant and prompt; a clip without sound has none."""
    selected = select_clips(verdict, table, protocol).clips()
    fresh = {prompt.id for prompt in protocol.confirmation}
    clips: dict[str, dict[str, bytes]] = {variant: {} for variant in selected}
    for variant, prompts in selected.items():
        for prompt in prompts:
            key = ledger.clips(variant, CONFIRMATION if prompt in fresh else SCREEN)
            with suppress(FileNotFoundError):
                clips[variant][prompt] = ledger.storage.read_from(key, clip_name(prompt))
    return clips
