"""What hosts ask of Ray's nodes, and what no node could ever give."""

import pytest

from jobs.problems import InputError
from orchestrator.hosts.node_requirements import (
    HostResources,
    check_resources,
    could_hold,
    host_resources,
)


def node(labels=None, *, alive=True, **resources):
    return {"Alive": alive, "Labels": labels or {}, "Resources": resources}


def test_a_spec_becomes_what_ray_is_asked_for(make_spec):
    spec = make_spec(
        resources="resources:\n  cpus_per_rank: 2\n  gpus_per_rank: 1\n"
        "  placement: {accelerator: H100, labels: {market: '!spot'}}"
    )
    resources = host_resources(spec)
    assert resources.rank == {"CPU": 2.0, "GPU": 1.0, "accelerator_type:H100": 0.001}
    assert resources.labels == {"market": "!spot"}
    assert resources.strategy == "STRICT_PACK"
    assert resources.describe(2) == (
        "a host takes 2 x {'CPU': 2.0, 'GPU': 1.0, 'accelerator_type:H100': 1} each, on one node "
        "of nodes with {'market': '!spot'}"
    )


def test_ranks_may_be_spread_when_told(make_spec):
    spec = make_spec(resources="resources: {placement: {spread_ranks: true}}")
    assert host_resources(spec).strategy == "PACK"
    assert host_resources(make_spec()).describe(1) == "a host takes 1 x {'CPU': 1.0}"


@pytest.mark.parametrize(
    "placement",
    [
        "{labels: {market: '-spot'}}",
        "{labels: {market: 'in()'}}",
        "{labels: {'a b': c}}",
        "{accelerator: 'H 100'}",
        "{spread: true}",
    ],
)
def test_what_ray_would_not_understand_is_refused(make_spec, placement):
    with pytest.raises(InputError, match="placement"):
        make_spec(resources=f"resources: {{gpus_per_rank: 1, placement: {placement}}}")


def test_a_type_of_gpu_needs_a_gpu(make_spec):
    with pytest.raises(InputError, match="a type of GPU, but gpus_per_rank is 0"):
        make_spec(resources="resources: {placement: {accelerator: H100}}")


@pytest.mark.parametrize(
    ("spread", "ranks", "fits"),
    [(False, 2, True), (False, 3, False), (True, 3, True), (True, 4, False)],
)
def test_ranks_are_on_one_node_unless_they_may_be_spread(spread, ranks, fits):
    nodes = [node(CPU=8, GPU=2), node(CPU=8, GPU=1), node(CPU=8, GPU=8, alive=False)]
    assert could_hold(nodes, HostResources({"CPU": 1, "GPU": 1}, spread=spread), ranks) is fits


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("spot", True),
        ("!spot", False),
        ("in(a, spot)", True),
        ("!in(a, b)", True),
        ("in(a)", False),
    ],
)
def test_labels_are_read_as_ray_reads_them(rule, fits):
    nodes = [node({"market": "spot"}, CPU=1)]
    assert could_hold(nodes, HostResources({"CPU": 1}, {"market": rule}), 1) is fits


def test_a_node_without_the_label_is_not_any_of_its_values():
    assert could_hold([node(CPU=1)], HostResources({"CPU": 1}, {"market": "!spot"}), 1)
    assert not could_hold([node(CPU=1)], HostResources({"CPU": 1}, {"market": "spot"}), 1)
    assert not could_hold([node(CPU=0.5)], HostResources({"CPU": 1}), 1)


def test_what_this_machine_can_never_hold_is_refused_at_once(make_spec):
    spec = make_spec(resources="resources: {cpus_per_rank: 3}", engine="engine: {ranks: 2}")
    check_resources(spec, [node(CPU=6)])
    with pytest.raises(InputError, match=r"takes 2 x \{'CPU': 3.0\} each, on one node, and this"):
        check_resources(spec, [node(CPU=5), node(CPU=5)])
