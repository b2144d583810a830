"""The answers of a study as ratings, with their systems: only the end of a test may show them."""

from orchestrator.listening_room.store import Enrolled, ItemState, StudyStore
from orchestrator.listening_room.study import ListeningStudy
from orchestrator.verdict.listening.ratings import AXES, PREFERENCE, Rating


def collected(store: StudyStore, study: ListeningStudy) -> list[Rating]:
    """Every rating that has all its axes, with its repeats, and all traps."""
    return [
        rating
        for rater in store.raters(study.id)
        for rating in of_rater(study, rater, store.states(rater.id))
    ]


def of_rater(study: ListeningStudy, rater: Enrolled, states: list[ItemState]) -> list[Rating]:
    """The same of one rater; items without an answer, and training, are left out."""
    axes = {PREFERENCE} if study.mode == "cmos" else set(AXES)
    given = [s for s in states if s.answer is not None and s.item.kind != "training"]
    asked: dict[tuple[str, str], set[str]] = {}
    for state in given:
        if state.item.kind == "rating":
            asked.setdefault((state.item.sentence, state.item.system), set()).add(state.item.axis)
    whole = {clip for clip, of in asked.items() if of == axes}
    ratings = []
    for state in given:
        item = state.item
        if item.kind != "trap" and (item.sentence, item.system) not in whole:
            continue
        assert state.answer is not None
        assert item.kind != "training"
        ratings.append(
            Rating(
                rater=rater.name,
                sentence=f"{item.sentence}-{state.at}" if item.kind == "trap" else item.sentence,
                system=item.system,
                axis=item.axis,
                score=item.score(state.answer),
                item=item.kind,
                expected=item.expected,
            )
        )
    return ratings
