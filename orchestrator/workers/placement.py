"""Where on the cluster a task runs that reads recordings: on the driver's node, or anywhere."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.sources.reading import is_s3
from jobs.data.clips import TargetClip


def data_locality(clips: Sequence[TargetClip], cpus: float, gpus: float) -> dict[str, Any]:
    """Ray's options for a task that reads ``clips``.

    Local files are read on the driver's node, with at most the resources that it has: the head of
    a cluster often has no GPU (a codec runs on a CPU too) and lends out no CPU. Clips in S3 are
    read anywhere.
    """
    if all(is_s3(clip.row.audio) for clip in clips):
        return {"num_cpus": cpus, "num_gpus": gpus}
    here = ray.get_runtime_context().get_node_id()
    (node,) = (each for each in ray.nodes() if each["NodeID"] == here)
    has = node["Resources"]
    return {
        "num_cpus": min(cpus, has.get("CPU", 0)),
        "num_gpus": gpus if has.get("GPU", 0) >= gpus else 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
