"""What a spec asks to be tried: every decoding once, the spec's own first, and none that is bad."""

import pytest

from jobs.problems import InputError
from orchestrator.spec.decodings import decoding_points


def points(make_spec, search: str, decoding: str = "{temperature: 0.8}"):
    spec = make_spec(variants=f"variants: {{decoding: {decoding}, decoding_search: {search}}}")
    return decoding_points(spec.variants)


def test_few_combinations_are_all_tried_the_specs_own_first(make_spec):
    found = points(make_spec, "{space: {temperature: [0.5, 0.8], top_p: [0.9, 1.0]}}")
    assert found == (
        {"temperature": 0.8, "top_p": 1.0},
        {"temperature": 0.5, "top_p": 0.9},
        {"temperature": 0.5, "top_p": 1.0},
        {"temperature": 0.8, "top_p": 0.9},
    )
    assert decoding_points(make_spec().variants) == ()


def test_at_temperature_0_what_only_sampling_reads_makes_no_other_decoding(make_spec):
    found = points(make_spec, "{space: {temperature: [0, 1], top_p: [0.8, 0.9]}}")
    assert found == (
        {"temperature": 0.8, "top_p": 1.0},
        {"temperature": 0.0, "top_p": 1.0},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.0, "top_p": 0.9},
    )


def test_ranges_are_spread_over_and_the_same_each_time(make_spec):
    search = (
        "{candidates: 12, space: {temperature: {low: 0.2, high: 1.4}, "
        "top_k: {low: 10, high: 100, log: true}}}"
    )
    first, *drawn = found = points(make_spec, search)
    assert first == {"temperature": 0.8, "top_k": 50}
    assert found == points(make_spec, search)
    assert len(found) == 12
    temperatures = sorted(point["temperature"] for point in drawn)
    assert temperatures[0] < 0.4
    assert temperatures[-1] > 1.2
    assert all(0.2 <= each <= 1.4 for each in temperatures)
    assert all(type(point["top_k"]) is int and 10 <= point["top_k"] <= 100 for point in drawn)


def test_more_combinations_than_candidates_are_drawn_from(make_spec):
    temperatures = [round(0.1 * n, 1) for n in range(1, 12)]
    found = points(make_spec, f"{{candidates: 4, space: {{temperature: {temperatures}}}}}")
    assert len(found) == 4
    assert len({point["temperature"] for point in found}) == 4


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("{seed: [1, 2]}", "may hold keys of decoding, got seed"),
        ("{temprature: [1, 2]}", "temperature"),
        ("{top_p: [0.5, 1.5]}", "top_p: Input should be less than or equal to 1, got 1.5"),
        ("{top_k: {low: 0, high: 9}}", "top_k: Input should be greater than or equal to 1"),
        ('{temperature: ["0.5", 1]}', "a choice must be a number, got '0.5'"),
    ],
)
def test_what_cannot_be_tried_is_told_before_anything_is_spent(make_spec, space, told):
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        points(make_spec, f"{{space: {space}}}")
