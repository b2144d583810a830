"""KubeRay's own schema of a RayJob, where it is at hand.

It is the CustomResourceDefinition of KubeRay v1.7.0, 1.4 MB of YAML, which is not shipped. It is
looked for in the folder that VOXSWEEP_CRDS names, else in ``shared/crds`` beside the repository.
"""

import functools
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

_BESIDE = Path(__file__).parents[1] / "../shared/crds"
_FOLDER = Path(os.environ.get("VOXSWEEP_CRDS", _BESIDE))
_FILE = _FOLDER / "ray.io_rayjobs.yaml"

needs_crds = [
    pytest.mark.crds,
    pytest.mark.skipif(
        not _FILE.is_file(), reason="VOXSWEEP_CRDS names no folder of KubeRay's v1.7.0 schemas"
    ),
]


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(_FILE.read_text(), Loader=loader)
    assert definition["metadata"]["name"] == "rayjobs.ray.io"
    (schema,) = [
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["name"] == "v1"
    ]
    return jsonschema.Draft202012Validator(_strict(schema))


def _strict(schema: Any) -> Any:
    """The same, with keys refused that it does not know: the API server would drop them."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
        known.setdefault("additionalProperties", bool(open_ended))
    return known


def schema_errors(job: dict[str, Any]) -> list[str]:
    """Where and how a RayJob differs from the schema."""
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in _validator().iter_errors(job)
    ]
