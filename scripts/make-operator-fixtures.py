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

    image = ["n", 3, 8, 8], FLOAT

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
        """Appends an operator that reads the current value."""
        self.last = self.op(kind, [self.last, *inputs], **attributes)

    def save(self, folder: Path, name: str, features: int) -> None:
        """Adds a linear layer to the current value, `features` numbers per image, and writes the file and its case."""
        self.then("Flatten")
        self.then("Gemm", self.values(4, features), self.values(4), transB=1)
        graph = helper.make_graph(
            self.nodes, name,
            [helper.make_tensor_value_info("image", self.image[1], self.image[0])],
            [helper.make_tensor_value_info(self.last, FLOAT, ["n", 4])], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        # GroupNormalization of operator set 18 was replaced in 21, but such files exist.
        if name != "op_group_norm_18":
            onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        images = self.images()
        np.save(folder / f"{name}.input.npy", images.astype(np.float32))
        np.save(folder / f"{name}.output.npy", session.run(None, {"image": images})[0])

    def images(self) -> np.ndarray:
        return self.rng.standard_normal((3, 3, 8, 8)).astype(np.float32)


class Pixels(Net):
    """The same for bytes with channels last, which the file itself resizes and normalises."""

    image = ["n", 12, 10, 3], TensorProto.UINT8

    def __init__(self, opset: int):
        self.rng = np.random.default_rng(opset)
        self.opset, self.nodes, self.initializers = opset, [], []
        self.last = self.op("Cast", ["image"], to=FLOAT)
        scales = self.constant(np.array([1, 2 / 3, 0.8, 1], np.float32))
        self.then("Resize", "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
        self.then("Transpose", perm=[0, 3, 1, 2])
        shape = self.op("Slice", [self.op("Shape", [self.last]), self.constant(np.array([0])), self.constant(np.array([2]))])
        sizes = self.op("Concat", [shape, self.constant(np.array([7, 6]))], axis=0)
        self.then("Resize", "", "", sizes, mode="cubic", coordinate_transformation_mode="half_pixel")
        self.then("Sub", self.constant(np.array([123.7, 116.3, 103.5], np.float32).reshape(3, 1, 1)))
        self.then("Div", self.constant(np.array([58.4, 57.1, 57.4], np.float32).reshape(3, 1, 1)))

    def images(self) -> np.ndarray:
        return self.rng.integers(0, 256, (3, 12, 10, 3)).astype(np.uint8)


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


def quantised_weights(folder: Path) -> None:
    """Weights as quantisation-aware training exports them: floats that the file quantises, with a scale per channel."""
    net = Net(14)
    scales = net.constant(net.rng.uniform(0.005, 0.012, 6).astype(np.float32))
    zeros = net.constant(np.zeros(6, np.int8))
    whole = net.op("QuantizeLinear", [net.values(6, 6, 3, 3), scales, zeros], axis=0)
    net.then("Conv", net.op("DequantizeLinear", [whole, scales, zeros], axis=0), pads=[1, 1, 1, 1])
    net.save(folder, "op_quantised_weights", 6 * 64)


def more_norms(folder: Path) -> None:
    net = Net(23)
    net.then("MeanVarianceNormalization", axes=[2, 3])
    net.then("LpNormalization", axis=1, p=1)
    net.then("RMSNormalization", net.values(8), axis=-1, epsilon=1e-4)
    net.then("LpNormalization", axis=-1, p=2)
    net.save(folder, "op_more_norms", 6 * 64)


def choices(folder: Path) -> None:
    """Comparisons, boolean functions, and Where with constant and computed conditions, some with infinities."""
    net = Net(17)
    number = lambda value: net.constant(np.array(value, np.float32))
    x = net.last
    low, high = net.op("Less", [x, number(-0.3)]), net.op("GreaterOrEqual", [x, net.values(6, 1, 1)])
    either = net.op("Or", [low, high])
    both = net.op("And", [net.op("Not", [low]), net.op("LessOrEqual", [x, number(0.9)])])
    mixed = net.op("Xor", [either, net.op("Greater", [number(0.2), x])])
    net.last = net.op("Where", [both, net.op("Tanh", [x]), net.op("Mul", [x, number(0.25)])])
    net.last = net.op("Where", [mixed, net.last, number(1.5)])
    net.then("Mul", net.op("Cast", [either], to=FLOAT))
    same = net.op("Equal", [either, both])
    shifted = net.op("Transpose", [net.op("Cast", [same], to=TensorProto.BOOL)], perm=[0, 1, 3, 2])
    net.then("Add", net.op("Cast", [shifted], to=FLOAT))
    mask = net.constant(np.tril(np.ones((8, 8), bool)))
    scores = net.op("Where", [mask, net.last, number(-np.inf)])
    net.last = net.op("Add", [net.op("Softmax", [scores], axis=-1), net.op("Relu", [net.last])])
    truth = net.op("Cast", [net.op("Relu", [net.op("Sub", [net.last, number(0.2)])])], to=TensorProto.BOOL)
    net.then("Add", net.op("Cast", [truth], to=FLOAT))
    net.then("Add", net.op("Where", [truth, number(0.125), net.values(8, 1)]))
    net.save(folder, "op_choices", 6 * 64)


def more_functions(folder: Path) -> None:
    net = Net(20)
    small = net.op("Clip", [net.op("Mul", [net.last, net.constant(np.array(0.3, np.float32))]),
                            net.constant(np.array(-0.9, np.float32)), net.constant(np.array(0.9, np.float32))])
    pieces = [net.op(kind, [small]) for kind in
              ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh", "Softsign", "Selu", "Sign")]
    pieces += [net.op(kind, [net.op("Mul", [net.last, net.constant(np.array(3.7, np.float32))])])
               for kind in ("Floor", "Ceil", "Round")]
    pieces.append(net.op("Acosh", [net.op("Add", [net.op("Abs", [net.last]), net.constant(np.array(1.1, np.float32))])]))
    # Halves round to the even integer.
    pieces.append(net.op("Round", [net.op("Add", [net.op("Mul", [net.last, net.constant(np.array(0, np.float32))]),
                                                  net.constant(np.array([[[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.49]]],
                                                                        np.float32))])]))
    pieces += [net.op("Celu", [net.last], alpha=0.7), net.op("ThresholdedRelu", [net.last], alpha=0.4),
               net.op("Shrink", [net.last], lambd=0.6, bias=0.1), net.op("Elu", [net.last], alpha=0.3),
               net.op("Selu", [net.last], alpha=1.2, gamma=0.8)]
    net.last = net.op("Mean", pieces[:9])
    for piece in pieces[9:]:
        net.then("Sub", piece)
    net.save(folder, "op_more_functions", 6 * 64)


def windows(folder: Path) -> None:
    """Pooling with powers and uneven padding, blocks of pixels, and layers over sequences."""
    net = Net(19)
    net.then("SpaceToDepth", blocksize=2)
    net.then("DepthToSpace", blocksize=2, mode="CRD")
    net.then("DepthToSpace", blocksize=1)
    net.then("Conv", net.values(8, 6, 1, 1))
    net.then("DepthToSpace", blocksize=2, mode="DCR")
    net.then("LpPool", kernel_shape=[2, 3], strides=[2, 1], pads=[0, 1, 0, 1], p=2)
    net.then("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[0, 1, 1, 0], ceil_mode=1)
    net.then("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)
    sequence = net.op("Reshape", [net.last, net.constant(np.array([0, 2, -1]))])
    net.last = net.op("Conv", [sequence, net.values(4, 2, 3), net.values(4)], pads=[1, 2], dilations=[1])
    net.then("MaxPool", kernel_shape=[2], strides=[1])
    net.then("AveragePool", kernel_shape=[3], strides=[2], pads=[0, 1])
    pieces = [net.op(kind, [net.last]) for kind in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")]
    net.last = net.op("Concat", [net.last, *pieces], axis=2)
    net.save(folder, "op_windows", 4 * 8)


def pixels(folder: Path) -> None:
    Pixels(17).save(folder, "op_pixels", 3 * 7 * 6)


def attentions(folder: Path) -> None:
    """Attention over rows of tokens and over heads, with a mask of numbers, one of booleans, and a causal one; padding with
    a value's own numbers before it."""
    net = Net(23)
    for mode in ("reflect", "edge", "wrap"):
        net.then("Pad", net.constant(np.array([0, 0, 1, 2, 0, 0, 2, 0], np.int64)), mode=mode)
    net.then("Slice", net.constant(np.array([1, 3])), net.constant(np.array([15, 11])), net.constant(np.array([2, 3])),
             net.constant(np.array([2, 1])))
    net.then("Reshape", net.constant(np.array([0, 6, 56])))
    net.then("Transpose", perm=[0, 2, 1])
    tokens = net.last
    net.then("Attention", tokens, tokens, net.values(56, 56), q_num_heads=2, kv_num_heads=2)
    allowed = net.rng.random((56, 56)) < 0.7
    allowed[:, 0] = True
    rows = net.last
    net.then("Attention", tokens, rows, net.constant(allowed), q_num_heads=3, kv_num_heads=3, scale=0.5)
    net.then("Reshape", net.constant(np.array([0, 56, 2, 3])))
    net.then("Transpose", perm=[0, 2, 1, 3])
    net.then("Attention", net.last, net.last, is_causal=1)
    net.save(folder, "op_attention", 6 * 56)


def old(folder: Path) -> None:
    """Operators in their forms of operator set 10."""
    net = Net(10)
    scales = lambda *numbers: net.constant(np.array(numbers, np.float32))
    net.then("Resize", scales(1, 1, 0.6, 0.8), mode="nearest")
    net.then("Resize", scales(1, 1, 2.5, 1), mode="nearest")
    net.then("Resize", scales(1, 1, 0.9, 1.2), mode="linear")
    net.then("Softmax", axis=2)
    net.then("LogSoftmax")
    net.save(folder, "op_old", 6 * 9 * 7)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for make in (norms, resizes, reductions, quantised, quantised_weights, more_norms, choices, more_functions, windows,
                 pixels, old, attentions):
        make(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
