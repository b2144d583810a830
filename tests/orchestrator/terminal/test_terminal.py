"""What a sweep shows in a terminal, and as plain lines where there is none."""

from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

from rich.console import Console

from jobs.spec.trial import BASE_VARIANT
from orchestrator.status import SweepStatus, TrialStatus
from orchestrator.terminal.results import show_verdict
from orchestrator.terminal.sweep import SweepProgress, show_status, trial_table
from orchestrator.verdict.judge import judge
from orchestrator.verdict.table import ScoreTable, VariantInfo
from tests.finished_sweep import BETTER, clips_of, protocol_of

TRIAL = "t0123456789ab"
VERDICT = """\
set A: best of 1 variants, 4 clips each
variant                similarity                     gain  word_error  failed clips  standing
base                        0.500                                0.100             0  base
r4 · 3e-3 · e1 · ×1.3       0.630  +0.130 [+0.101, +0.159]       0.100             0  winner

set B by language and speaker
             prompts                     gain  p after Holm  verdict                    variant
language en        6  +0.120 [+0.100, +0.140]         0.031  PENDING  r4 · 3e-3 · e1 · ×1.3
language km        6  +0.140 [+0.120, +0.160]         0.031  PENDING  r4 · 3e-3 · e1 · ×1.3

""".replace("PENDING", "PROMOTE-PENDING-LISTENING").splitlines()
RUNNING = TrialStatus(TRIAL, 8, 1e-3, 2, 4, 1.25, 1.5, 0.5, f"{TRIAL}-e02-s0.70")


def shown(width: int = 120) -> Console:
    """A console that keeps what is printed; no terminal."""
    return Console(file=StringIO(), width=width)


def lines(console: Console) -> list[str]:
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_verdict_of_two_languages():
    facts = SimpleNamespace(base_digest="b", encoder_digest="e")
    rule = protocol_of(SimpleNamespace(facts=facts), ["en", "km"])
    variant = f"{TRIAL}-e01-s1.30"
    infos = [
        VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None),
        VariantInfo(variant, TRIAL, 1, 1.3, 4, 3e-3, 2.0),
    ]

    def table(prompts, protocol):
        both = ((BASE_VARIANT, [0.0]), (variant, BETTER))
        rows = [row for name, gains in both for row in clips_of(name, prompts, {None: gains})]
        return ScoreTable.build(infos, rows, protocol)

    screen = table(rule.prompts, rule)
    verdict = judge(screen, table(rule.confirmation, rule.confirming()), rule)
    console = shown()
    show_verdict(console, verdict, screen)
    assert lines(console)[: len(VERDICT)] == VERDICT
    assert lines(console)[10] == "PROMOTE-PENDING-LISTENING"
    assert lines(console)[11].startswith("Promote the checkpoint of trial ")


def test_a_trial_as_a_row_and_as_lines():
    console = shown()
    console.print(trial_table([RUNNING]))
    progress = SweepProgress(console)
    with progress.live():
        progress.stage("training [8 trials]")
        progress.update(TrialStatus(TRIAL, 8, 1e-3, 0, 4))
        progress.update(RUNNING)
        progress.update(RUNNING)
        progress.end(TRIAL, "stopped")
        progress.end("unknown", "failed")
    named = f"{TRIAL}  rank 8  lr 1e-3"
    assert lines(console) == [
        "trial          rank  learning rate  epoch   loss  validation  objective  best so far",
        f"{TRIAL}     8           1e-3    2/4  1.250       1.500      0.500  e02-s0.70    running",
        "training [8 trials]",
        f"{named}  started",
        f"{named}  epoch 2/4  loss 1.250  validation 1.500  objective 0.500",
        f"{named}  stopped after epoch 2",
    ]


def test_why_a_trial_failed_is_told():
    console = shown()
    progress = SweepProgress(console)
    progress.update(RUNNING)
    progress.end(TRIAL, "failed", "OutOfMemoryError: 80 GiB")
    assert lines(console)[-1].endswith("failed after epoch 2: OutOfMemoryError: 80 GiB")
    console = shown()
    failed = replace(RUNNING, status="failed", reason="its process died")
    trials = (failed, replace(RUNNING, status="stopped", reason="worse than its peers"))
    undone = "1 of 3 trials were not begun: the budget has 0 hours left"
    status = SweepStatus("s", "st", trials, 2, 4, 8, (), 0.1, 0.0, None, undone=undone)
    show_status(console, status)
    assert f"{TRIAL} failed: its process died" in lines(console)
    assert f"left undone by the budget: {undone}" in lines(console)
    assert not any("worse than its peers" in line for line in lines(console))


def test_a_live_table_keeps_a_line_of_why_a_trial_failed():
    console = Console(file=StringIO(), width=120, force_terminal=True)
    progress = SweepProgress(console)
    with progress.live():
        progress.update(RUNNING)
        progress.end(TRIAL, "failed", "its process died")
    assert "failed after epoch 2: its process died" in console.file.getvalue()
