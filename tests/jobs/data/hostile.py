"""The corpus of hostile inputs."""

from tests.jobs.data import hostile_audio, hostile_folders, hostile_lines, hostile_paths
from tests.jobs.data.hostile_case import Case

CASES: list[Case] = [
    *hostile_lines.CASES,
    *hostile_paths.CASES,
    *hostile_audio.CASES,
    *hostile_folders.CASES,
]
