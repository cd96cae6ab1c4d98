"""The messages of onnx.proto (IR version 13) that a model may use: field numbers, names, kinds, as ONNX gives them."""

from __future__ import annotations

from builder.model.onnx_wire import Shape

MODEL = Shape(
    "model",
    {
        1: ("ir_version", "int"),
        2: ("producer_name", "bytes"),
        3: ("producer_version", "bytes"),
        4: ("domain", "bytes"),
        5: ("model_version", "int"),
        6: ("doc_string", "bytes"),
        7: ("graph", "bytes"),
        8: ("opset_import", "blobs"),
        14: ("metadata_props", "blobs"),
        20: ("training_info", "blobs"),
        25: ("functions", "blobs"),
    },
)
OPSET = Shape("opset_import", {1: ("domain", "bytes"), 2: ("version", "int")})
PROPERTY = Shape("metadata_props", {1: ("key", "bytes"), 2: ("value", "bytes")})
GRAPH = Shape(
    "graph",
    {
        1: ("node", "blobs"),
        2: ("name", "bytes"),
        5: ("initializer", "blobs"),
        10: ("doc_string", "bytes"),
        11: ("input", "blobs"),
        12: ("output", "blobs"),
        13: ("value_info", "blobs"),
        14: ("quantization_annotation", "blobs"),
        15: ("sparse_initializer", "blobs"),
        16: ("metadata_props", "blobs"),
    },
)
NODE = Shape(
    "node",
    {
        1: ("input", "blobs"),
        2: ("output", "blobs"),
        3: ("name", "bytes"),
        4: ("op_type", "bytes"),
        5: ("attribute", "blobs"),
        6: ("doc_string", "bytes"),
        7: ("domain", "bytes"),
        8: ("overload", "bytes"),
        9: ("metadata_props", "blobs"),
    },
)
ATTRIBUTE = Shape(
    "attribute",
    {
        1: ("name", "bytes"),
        2: ("f", "float"),
        3: ("i", "int"),
        4: ("s", "bytes"),
        5: ("t", "bytes"),
        6: ("g", "bytes"),
        7: ("floats", "floats"),
        8: ("ints", "ints"),
        9: ("strings", "blobs"),
        10: ("tensors", "blobs"),
        11: ("graphs", "blobs"),
        13: ("doc_string", "bytes"),
        20: ("type", "int"),
    },
)
TENSOR = Shape(
    "tensor",
    {
        1: ("dims", "ints"),
        2: ("data_type", "int"),
        3: ("segment", "bytes"),
        4: ("float_data", "floats"),
        5: ("int32_data", "ints"),
        6: ("string_data", "blobs"),
        7: ("int64_data", "ints"),
        8: ("name", "bytes"),
        9: ("raw_data", "bytes"),
        10: ("double_data", "doubles"),
        11: ("uint64_data", "ints"),
        12: ("doc_string", "bytes"),
        13: ("external_data", "blobs"),
        14: ("data_location", "int"),
        16: ("metadata_props", "blobs"),
    },
)
VALUE = Shape(
    "value", {1: ("name", "bytes"), 2: ("type", "bytes"), 3: ("doc_string", "bytes"), 4: ("metadata_props", "blobs")}
)
TYPE = Shape("type", {1: ("tensor_type", "bytes"), 6: ("denotation", "bytes")})
TENSOR_TYPE = Shape("tensor_type", {1: ("elem_type", "int"), 2: ("shape", "bytes")})
TENSOR_SHAPE = Shape("shape", {1: ("dim", "blobs")})
DIMENSION = Shape("dim", {1: ("dim_value", "int"), 2: ("dim_param", "bytes"), 3: ("denotation", "bytes")})

DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data")
FLOAT = 1
