"""Learning rates against values computed by hand."""

import pytest

from jobs.spec.trial import Schedule, TrainingSpec
from jobs.training.slot import learning_rate

HALF_ROOT_2 = 0.7071067811865476


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [8.0, 8.0, 8.0, 8.0]),
        ("constant", 2, [4.0, 8.0, 8.0, 8.0]),
        ("linear", 0, [8.0, 6.0, 4.0, 2.0]),
        ("linear", 2, [4.0, 8.0, 8.0, 4.0]),
        ("cosine", 0, [8.0, 4 * (1 + HALF_ROOT_2), 4.0, 4 * (1 - HALF_ROOT_2)]),
        ("cosine", 2, [4.0, 8.0, 8.0, 4.0]),
        # A warm-up longer than the training never reaches the rate.
        ("linear", 8, [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_rates_of_a_training_of_four_steps(schedule: Schedule, warmup: int, expected: list[float]):
    spec = TrainingSpec(learning_rate=8.0, schedule=schedule, warmup_steps=warmup)
    rates = [learning_rate(spec, step, total_steps=4) for step in range(4)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_constant_schedule_does_not_look_at_the_horizon():
    spec = TrainingSpec(schedule="constant", warmup_steps=3)
    assert [learning_rate(spec, s, 4) for s in range(4)] == [
        learning_rate(spec, s, 400) for s in range(4)
    ]
