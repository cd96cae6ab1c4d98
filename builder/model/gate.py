"""The static gate: what an ONNX file must be before anything loads it. Nothing is executed.

One file (no external data), operators of the standard domain alone in every graph and subgraph, no functions of its
own, one image in and one row of scores out. Each tensor has its data once: onnxruntime and other readers choose
differently when there are two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.core.errors import DecodeError, InputError
from builder.model import onnx_shapes as shapes
from builder.model.onnx_wire import Message, Shape, read_message

DOMAINS = ("", "ai.onnx")
OLDEST_OPSET, NEWEST_OPSET = 7, 23
CHANNELS = 3
MAX_DEPTH = 16
CLASS_NAMES = "character"  # where PaddlePaddle's exporter keeps them


@dataclass(frozen=True)
class Signature:
    """What the gate found. crop: side of the square input in pixels. classes: length of the row of scores.

    opset: version of the standard operators. operators: their names, sorted. class_names: as the file itself states
    them, or None.
    """

    input_name: str
    output_name: str
    crop: int
    classes: int
    opset: int
    operators: tuple[str, ...]
    class_names: tuple[str, ...] | None

    @property
    def described_input(self) -> str:
        """As bills of materials say it: `x: float32[n,3,224,224]`."""
        return f"{self.input_name}: float32[n,{CHANNELS},{self.crop},{self.crop}]"

    @property
    def described_output(self) -> str:
        """As bills of materials say it: `scores: float32[n,4]`."""
        return f"{self.output_name}: float32[n,{self.classes}]"


def inspect_model(onnx: bytes) -> Signature:
    """Raises DecodeError when it is no ONNX model, InputError when the device must not have such a model."""
    try:
        model = read_message(memoryview(onnx), shapes.MODEL)
        if not model.has("ir_version") or not model.has("graph"):
            raise DecodeError("model: no ir_version or no graph")
        return _signature(model)
    except DecodeError as error:
        raise DecodeError(
            f"not an ONNX model: {error.message}", hint="is the file whole, and in ONNX format?"
        ) from error


def _signature(model: Message) -> Signature:
    for field, what in (("functions", "functions of its own"), ("training_info", "training information")):
        _require(not model.blobs(field), f"the model has {what}", "export it for inference, with standard operators")
    opset = _opset(model)
    graph = read_message(model.blobs("graph")[0], shapes.GRAPH)
    operators = sorted({node.text("op_type") for node in _checked_nodes(graph, 0)})
    input_name, crop = _input(graph)
    output_name, classes = _output(graph)
    stated = {item.text("key"): item.text("value") for item in _inner(model, "metadata_props", shapes.PROPERTY)}
    return Signature(
        input_name=input_name,
        output_name=output_name,
        crop=crop,
        classes=classes,
        opset=opset,
        operators=tuple(operators),
        class_names=tuple(stated[CLASS_NAMES].splitlines()) if CLASS_NAMES in stated else None,
    )


def _opset(model: Message) -> int:
    imports = list(_inner(model, "opset_import", shapes.OPSET))
    _require_domains([one.text("domain") for one in imports], "the model imports operators of")
    versions = [one.number("version") for one in imports]
    if len(versions) != 1:
        raise DecodeError(f"opset_import: {len(versions)} versions of the standard operators")
    _require(
        OLDEST_OPSET <= versions[0] <= NEWEST_OPSET,
        f"the model is of opset {versions[0]}, {OLDEST_OPSET} to {NEWEST_OPSET} are allowed",
        "convert it with onnx.version_converter",
    )
    return versions[0]


def _checked_nodes(graph: Message, depth: int) -> Iterator[Message]:
    """All nodes of the graph and of the graphs in their attributes, with every tensor checked on the way."""
    if depth > MAX_DEPTH:
        raise DecodeError(f"graph: nested deeper than {MAX_DEPTH}")
    _require(not graph.blobs("sparse_initializer"), "the model has sparse tensors", "export it with dense tensors")
    for tensor in graph.blobs("initializer"):
        _check_tensor(tensor)
    for node in _inner(graph, "node", shapes.NODE):
        _require_domains([node.text("domain")], f"node {node.text('name') or node.text('op_type')} is of")
        yield node
        for attribute in _inner(node, "attribute", shapes.ATTRIBUTE):
            for tensor in (*attribute.blobs("t"), *attribute.blobs("tensors")):
                _check_tensor(tensor)
            for inner in (*attribute.blobs("g"), *attribute.blobs("graphs")):
                yield from _checked_nodes(read_message(inner, shapes.GRAPH), depth + 1)


def _check_tensor(data: memoryview) -> None:
    tensor = read_message(data, shapes.TENSOR)
    name = tensor.text("name") or "without a name"
    if tensor.has("external_data") or tensor.number("data_location") != 0:
        raise InputError(
            f"tensor {name} has its data in another file",
            hint="save the model as one file: onnx.save(model, path, save_as_external_data=False)",
        )
    present = [field for field in shapes.DATA_FIELDS if tensor.sizes.get(field, 0)]
    if tensor.has("segment") or len(present) > 1:
        raise DecodeError(f"tensor {name}: data in pieces or given twice ({', '.join(present)})")


def _input(graph: Message) -> tuple[str, int]:
    constants = {read_message(data, shapes.TENSOR).text("name") for data in graph.blobs("initializer")}
    inputs = [value for value in _inner(graph, "input", shapes.VALUE) if value.text("name") not in constants]
    _require(len(inputs) == 1, f"the model has {len(inputs)} inputs, expected one image", "")
    dims = _float_dims(inputs[0])
    fits = len(dims) == 4 and dims[1] == CHANNELS and dims[2] == dims[3] > 0
    _require(fits, f"the input is {_told(dims)}, expected (n, {CHANNELS}, side, side)", "fix its sides when exporting")
    return inputs[0].text("name"), dims[2]


def _output(graph: Message) -> tuple[str, int]:
    outputs = list(_inner(graph, "output", shapes.VALUE))
    _require(len(outputs) == 1, f"the model has {len(outputs)} outputs, expected one row of scores", "")
    dims = _float_dims(outputs[0])
    _require(len(dims) == 2 and dims[1] > 0, f"the output is {_told(dims)}, expected (n, classes)", "")
    return outputs[0].text("name"), dims[1]


def _float_dims(value: Message) -> tuple[int, ...]:
    """Sides of a float32 tensor; 0 for one that is not fixed."""
    kind = read_message(_only(value, "type"), shapes.TYPE)
    tensor = read_message(_only(kind, "tensor_type"), shapes.TENSOR_TYPE)
    _require(tensor.number("elem_type") == shapes.FLOAT, f"{value.text('name')} is not float32", "")
    shape = read_message(_only(tensor, "shape"), shapes.TENSOR_SHAPE)
    return tuple(max(0, dim.number("dim_value")) for dim in _inner(shape, "dim", shapes.DIMENSION))


def _only(message: Message, name: str) -> memoryview:
    found = message.blobs(name)
    if not found:
        raise DecodeError(f"{message.shape.name}: no {name}")
    return found[0]


def _inner(message: Message, name: str, shape: Shape) -> Iterator[Message]:
    return (read_message(data, shape) for data in message.blobs(name))


def _require_domains(found: Sequence[str] | dict[str, int], what: str) -> None:
    for domain in found:
        _require(
            domain in DOMAINS,
            f"{what} the domain {domain}",
            "only standard ONNX operators run on every execution provider; export without custom operators",
        )


def _require(fits: bool, message: str, hint: str) -> None:
    if not fits:
        raise InputError(message, hint=hint or None)


def _told(dims: tuple[int, ...]) -> str:
    return f"({', '.join(str(side or 'n') for side in dims)})"
