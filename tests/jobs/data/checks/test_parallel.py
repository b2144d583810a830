"""Results come in order, and items are read no faster than results are taken."""

import subprocess
import sys

import pytest

from jobs.data.checks.parallel import map_ordered


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_with_its_result_in_order(workers):
    items = range(-100, 100)
    assert list(map_ordered(abs, items, workers)) == [(item, abs(item)) for item in items]
    assert list(map_ordered(abs, [], workers)) == []


def test_few_items_are_read_ahead():
    read = []

    def items():
        for item in range(100_000):
            read.append(item)
            yield item

    results = map_ordered(abs, items(), 2)
    for _ in range(1000):
        next(results)
    results.close()
    assert len(read) < 1000 + 200


def test_an_error_in_a_worker_is_raised_here():
    with pytest.raises(TypeError, match="bad operand"):
        list(map_ordered(abs, ["x"], 2))


def test_decoding_imports_no_torch():
    """Each worker imports what it runs; torch would take seconds and hundreds of MB."""
    program = (
        "import sys, jobs.data.checks.check; assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
