"""How far a test has come, without a word of which system anybody prefers."""

from dataclasses import dataclass

import numpy as np

from orchestrator.listening_room.collected import collected, of_rater
from orchestrator.listening_room.store import Enrolled, StudyStore
from orchestrator.listening_room.study import ListeningStudy
from orchestrator.verdict.listening.ratings import Ratings


@dataclass(frozen=True)
class RaterProgress:
    """One rater's."""

    rater: Enrolled
    answered: int
    items: int
    traps: int
    """Answered."""
    missed: int
    """Of those."""
    repeat_change: float | None
    """Mean distance of repeats to the first scores, points; None without."""


@dataclass(frozen=True)
class StudyProgress:
    """All raters', and how far they agree."""

    raters: tuple[RaterProgress, ...]
    alpha: float | None
    """Krippendorff's, ordinal; it is the same whichever system is preferred."""


def progress_of(store: StudyStore, study: ListeningStudy) -> StudyProgress:
    """The progress of a study."""
    rows = tuple(_progress(store, study, rater) for rater in store.raters(study.id))
    ratings = collected(store, study)
    rated = any(rating.item == "rating" for rating in ratings)
    return StudyProgress(rows, Ratings.build(ratings).agreement() if rated else None)


def _progress(store: StudyStore, study: ListeningStudy, rater: Enrolled) -> RaterProgress:
    states = store.states(rater.id)
    rows = of_rater(study, rater, states)
    traps = [row for row in rows if row.item == "trap"]
    first = {(r.sentence, r.system, r.axis): r.score for r in rows if r.item == "rating"}
    changes = [
        abs(row.score - first[row.sentence, row.system, row.axis])
        for row in rows
        if row.item == "repeat"
    ]
    return RaterProgress(
        rater=rater,
        answered=sum(state.answer is not None for state in states),
        items=len(states),
        traps=len(traps),
        missed=sum(row.score != row.expected for row in traps),
        repeat_change=float(np.mean(changes)) if changes else None,
    )
