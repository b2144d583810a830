"""Where on the cluster a task runs that reads recordings: on this machine, if it alone has them."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.sources.reading import is_s3
from jobs.data.clips import TargetClip


def where_data_is(clips: Sequence[TargetClip], cpus: float, gpus: float) -> dict[str, Any]:
    """What a task that reads ``clips`` asks of Ray.

    Files are read on the driver's node, with no more than it has: the head of a cluster often has
    no GPU, and a codec runs on a CPU too, and lends out no CPU. What is in S3 is read anywhere.
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
