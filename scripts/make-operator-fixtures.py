#!/usr/bin/env python3
"""Makes tests/fixtures/onnx/op_*.onnx: small classifiers written node by node, whose operators PyTorch's exporters do not
write, an input for each, and what onnxruntime gives for it without its optimiser.

usage: make-operator-fixtures.py FOLDER

NAME.onnx, NAME.input.npy and NAME.output.npy (float32). It needs numpy, onnx and onnxruntime, as in tests/requirements.txt.
"""
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Net:
    """A classifier under construction: a convolution of the image, operators on 6 x 8 x 8 values, a linear layer."""

    def __init__(self, opset: int):
        self.rng = np.random.default_rng(opset)
        self.opset, self.nodes, self.initializers = opset, [], []
        self.last = self.op("Conv", ["image", self.values(6, 3, 3, 3), self.values(6)], pads=[1, 1, 1, 1])

    def values(self, *shape: int) -> str:
        return self.constant((self.rng.standard_normal(shape) / 2).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, inputs: list[str], **attributes) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def then(self, kind: str, *inputs: str, **attributes) -> None:
        """The next operator, on what there is."""
        self.last = self.op(kind, [self.last, *inputs], **attributes)

    def save(self, folder: Path, name: str, features: int) -> None:
        """Adds a linear layer over what there is, `features` numbers for an image, and writes the file and its case."""
        self.then("Flatten")
        self.then("Gemm", self.values(4, features), self.values(4), transB=1)
        graph = helper.make_graph(
            self.nodes, name,
            [helper.make_tensor_value_info("image", FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info(self.last, FLOAT, ["n", 4])], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        # GroupNormalization of 18 was replaced in 21, but files with it are there.
        if name != "op_group_norm_18":
            onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        images = self.rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
        np.save(folder / f"{name}.input.npy", images)
        np.save(folder / f"{name}.output.npy", session.run(None, {"image": images})[0])


def norms(folder: Path) -> None:
    net = Net(21)
    net.then("InstanceNormalization", net.values(6), net.values(6), epsilon=1e-3)
    net.then("GroupNormalization", net.values(6), net.values(6), num_groups=3, epsilon=1e-4)
    grouped = net.op("Reshape", [net.last, net.constant(np.array([0, 2, -1]))])
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    normed = net.op("InstanceNormalization", [grouped, net.constant(ones), net.constant(zeros)])
    net.last = net.op("Reshape", [normed, net.op("Shape", [net.last])])
    net.then("Mul", net.values(6, 1, 1))
    net.then("LRN", size=5, alpha=0.3, beta=0.6, bias=1.5)
    net.then("LRN", size=3)
    net.save(folder, "op_norms", 6 * 64)
    net = Net(18)
    net.then("GroupNormalization", net.values(3), net.values(3), num_groups=3)
    net.save(folder, "op_group_norm_18", 6 * 64)


def resizes(folder: Path) -> None:
    net = Net(13)
    scales = lambda *numbers: net.constant(np.array(numbers, np.float32))
    net.then("Resize", "", scales(1, 1, 2, 1.5), mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor")
    shape = net.op("Slice", [net.op("Shape", [net.last]), net.constant(np.array([0])), net.constant(np.array([2]))])
    net.then("Resize", "", "", net.op("Concat", [shape, net.constant(np.array([9, 7]))], axis=0), mode="linear")
    net.then("Resize", "", scales(1, 1, 0.8, 1.9), mode="cubic", coordinate_transformation_mode="pytorch_half_pixel",
             cubic_coeff_a=-0.5)
    net.then("Resize", "", scales(1, 1, 1.5, 0.75), mode="linear", coordinate_transformation_mode="align_corners")
    net.then("Resize", "", scales(1, 1, 1.25, 1.25), mode="cubic", exclude_outside=1)
    net.then("Resize", "", scales(1, 1, 1, 0.6), mode="nearest", nearest_mode="round_prefer_ceil")
    net.save(folder, "op_resizes", 6 * 12 * 6)
    net = Net(9)
    net.then("Upsample", net.constant(np.array([1, 1, 2, 3], np.float32)), mode="nearest")
    net.then("Upsample", net.constant(np.array([1, 1, 1.5, 1], np.float32)), mode="linear")
    net.save(folder, "op_upsample", 6 * 24 * 24)


def reductions(folder: Path) -> None:
    net = Net(18)
    pieces = []
    for kind, axes, keep in [("ReduceMax", [2, 3], 0), ("ReduceMin", [-1], 1), ("ReduceL1", [1], 1), ("ReduceL2", [1, 3], 0),
                             ("ReduceSumSquare", [2], 1), ("ReduceLogSumExp", [1, 2], 0), ("ReduceSum", [3], 0),
                             ("ReduceMean", [1, 2], 1)]:
        reduced = net.op(kind, [net.last, net.constant(np.array(axes))], keepdims=keep)
        pieces.append(net.op("Flatten", [reduced]))
    positive = net.op("Exp", [net.last])
    pieces.append(net.op("Flatten", [net.op("ReduceLogSum", [positive, net.constant(np.array([1]))])]))
    net.last = net.op("Concat", pieces, axis=1)
    net.save(folder, "op_reductions", 6 + 48 + 64 + 8 + 48 + 8 + 48 + 8 + 64)


def quantised(folder: Path) -> None:
    net = Net(13)
    number = lambda value, kind: net.constant(np.array(value, kind))
    per_tensor = (number(0.05, np.float32), number(120, np.uint8))
    net.last = net.op("DequantizeLinear", [net.op("QuantizeLinear", [net.last, *per_tensor]), *per_tensor])
    weights = net.constant(net.rng.integers(-128, 128, (6, 6, 3, 3)).astype(np.int8))
    scales = net.constant(net.rng.uniform(0.001, 0.004, 6).astype(np.float32))
    zeros = net.constant(np.zeros(6, np.int8))
    bias = net.constant(net.rng.integers(-4000, 4000, 6).astype(np.int32))
    weights = net.op("DequantizeLinear", [weights, scales, zeros], axis=0)
    bias = net.op("DequantizeLinear", [bias, number(0.0002, np.float32)])
    net.then("Conv", weights, bias, pads=[1, 1, 1, 1])
    net.then("Relu")
    per_channel = (net.constant(net.rng.uniform(0.01, 0.04, 6).astype(np.float32)),
                   net.constant(net.rng.integers(-100, -60, 6).astype(np.int8)))
    quantised = net.op("QuantizeLinear", [net.last, *per_channel], axis=1)
    net.last = net.op("DequantizeLinear", [quantised, *per_channel], axis=1)
    net.save(folder, "op_quantised", 6 * 64)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for make in (norms, resizes, reductions, quantised):
        make(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
