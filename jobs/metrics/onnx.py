"""ONNX files of installed packages, whole or in part, each run on one thread.

A part is what lies between some inner values of the network and some others: run alone, it takes
other lengths than the file declares, and what it gives is computed once where it is used often.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jobs.metrics.models import package_file

if TYPE_CHECKING:
    import onnxruntime

Shape = Sequence[int | str]
"""Of one value; a size that may differ from call to call has a name."""


def open_model(package: str, name: str) -> "onnxruntime.InferenceSession":
    """The whole network of file ``name`` in ``package``. Raises FileNotFoundError without it."""
    return _session(package_file(package, name).read_bytes())


def open_part(
    package: str, name: str, inputs: Mapping[str, Shape], outputs: Collection[str]
) -> "onnxruntime.InferenceSession":
    """The part of a network that computes ``outputs`` from the float values ``inputs``.

    Raises:
        FileNotFoundError: the package or the file is missing.
        LookupError: the file does not hold these values: it is not the version that was meant.
    """
    model = _messages()["Model"].FromString(package_file(package, name).read_bytes())
    graph = model.graph
    needed = set(outputs)
    nodes: list[Any] = []
    for node in reversed(graph.node):  # which a file has in the order of computation
        if needed.intersection(node.output) - inputs.keys():
            nodes.insert(0, node)
            needed.update(node.input)
    given = {value for node in nodes for value in node.output} | inputs.keys()
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    unknown = needed - given - {tensor.name for tensor in weights} - {""}  # "": an input left out
    if unknown or not needed.issuperset(inputs):
        raise LookupError(
            f"{name!r} of {package!r} must compute {sorted(outputs)} from {sorted(inputs)}, and "
            f"does not (unknown: {sorted(unknown)}); install {package} at the pinned version"
        )
    part = type(graph)(node=nodes, initializer=weights)
    for value, shape in inputs.items():
        _declare(part.input.add(), value, shape)
    for value in outputs:
        _declare(part.output.add(), value)
    # The file's other lists are left out: one holds the sizes of the whole network's values.
    graph.Clear()
    graph.CopyFrom(part)
    graph.name = name
    return _session(model.SerializeToString())


def _declare(declared: Any, name: str, shape: Shape | None = None) -> None:  # noqa: ANN401 (a message of no static class)
    """Fill in a ValueInfoProto of 32-bit floats."""
    declared.name = name
    declared.type.tensor_type.elem_type = 1  # TensorProto.FLOAT
    for size in shape or ():
        key = "dim_param" if isinstance(size, str) else "dim_value"
        declared.type.tensor_type.shape.dim.add(**{key: size})


def _session(model: bytes) -> "onnxruntime.InferenceSession":
    import onnxruntime  # here, so that metadata costs no inference runtime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors alone: PLCMOS declares a single number, and warns when asked for several.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


# The fields of onnx.proto (github.com/onnx/onnx) that cutting reads or writes, with their numbers;
# protobuf carries the others through unread. A message's name stands for its type.
_FIELDS: dict[str, list[tuple[str, int, str]]] = {
    "Model": [("graph", 7, "Graph")],
    "Graph": [
        ("node", 1, "Node*"),
        ("name", 2, "string"),
        ("initializer", 5, "Weights*"),
        ("input", 11, "Value*"),
        ("output", 12, "Value*"),
    ],
    "Node": [("input", 1, "string*"), ("output", 2, "string*")],
    "Weights": [("name", 8, "string")],
    "Value": [("name", 1, "string"), ("type", 2, "Type")],
    "Type": [("tensor_type", 1, "Tensor")],
    "Tensor": [("elem_type", 1, "int32"), ("shape", 2, "Sizes")],
    "Sizes": [("dim", 1, "Size*")],
    "Size": [("dim_value", 1, "int64"), ("dim_param", 2, "string")],
}


@cache
def _messages() -> dict[str, Any]:
    """The message classes of ``_FIELDS``, by name."""
    from google.protobuf import (  # type: ignore[import-untyped]  # it ships no types
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="onnx_part.proto", package="onnx_part")
    scalar = {"string": 9, "int32": 5, "int64": 3}  # FieldDescriptorProto.Type
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number)
            field.label = 3 if kind.endswith("*") else 1  # repeated, optional
            field.type = scalar.get(kind.rstrip("*"), 11)  # a message
            if field.type == 11:
                field.type_name = f".{file.package}.{kind.rstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in _FIELDS
    }
