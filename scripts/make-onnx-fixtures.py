#!/usr/bin/env python3
"""Makes tests/fixtures/onnx: small models from other exporters, an input for each, and onnxruntime's output for it.

usage: make-onnx-fixtures.py FOLDER

NAME.onnx, NAME.input.npy and NAME.output.npy (float32). It needs what tests/requirements-foreign.txt names.
"""
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

FLOAT = TensorProto.FLOAT


class SqueezeExcite(nn.Module):
    """A block of MobileNetV3: BatchNorm, Hardswish, squeeze and excite."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.excite = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1),
                                    nn.Hardsigmoid())
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding=2), nn.ReLU6(),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x * self.excite(x))


class Shuffle(nn.Module):
    """A unit of ShuffleNetV2: channels are split in halves, concatenated and shuffled."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.SiLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        x = x.view(batch, channels, height, width)
        return self.head(x.mean([2, 3]))


class NormGelu(nn.Module):
    """A block of ConvNeXt: depthwise convolution, LayerNorm over channels, GELU, layer scale."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, 2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm, self.last = nn.LayerNorm(6, eps=1e-6), nn.LayerNorm(6)
        self.wide, self.narrow = nn.Linear(6, 12), nn.Linear(12, 6)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 0.3))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(nn.functional.gelu(self.wide(y))).permute(0, 3, 1, 2)
        x = x + self.scale * y
        return self.head(self.last(x.mean([-2, -1])))


def transformers() -> dict[str, tuple[nn.Module, int]]:
    """Small ones of torchvision's transformers, with the side of their images."""
    from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    swin = {"patch_size": [2, 2], "embed_dim": 4, "depths": [2, 1], "num_heads": [2, 2], "window_size": [2, 2],
            "num_classes": 4, "stochastic_depth_prob": 0.0}
    return {
        "vit": (VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=6, mlp_dim=8, num_classes=4), 8),
        "swin": (SwinTransformer(**swin), 8),
        "swin_v2": (SwinTransformer(**swin, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2), 8),
        "maxvit": (MaxVit((16, 16), stem_channels=4, partition_size=2, block_channels=[4], block_layers=[2], head_dim=2,
                          stochastic_depth_prob=0.0, num_classes=4), 16),
    }


def statistics(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return net.eval()


def torchscript(path: Path, net: nn.Module, opset: int, side: int = 8, free: bool = True) -> None:
    axes = {"input": {0: "batch"}, "output": {0: "batch"}} if free else None
    torch.onnx.export(statistics(net), (torch.randn(2, 3, side, side),), str(path), dynamo=False, dynamic_axes=axes,
                      input_names=["input"], output_names=["output"], opset_version=opset)


def dynamo(path: Path, net: nn.Module, side: int = 8) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(statistics(net), (torch.randn(2, 3, side, side),), str(path), dynamo=True, external_data=False,
                      dynamic_shapes=shapes, input_names=["input"], output_names=["output"], verbose=False)
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


class Hand:
    """A model written node by node."""

    def __init__(self, opset: int, image: list, element: int = FLOAT):
        self.opset, self.nodes, self.weights = opset, [], []
        self.input = helper.make_tensor_value_info("input", element, image)
        self.random = np.random.default_rng(opset)

    def weight(self, name: str, *shape: int, scale: float = 0.5, kind=np.float32) -> str:
        return self.constant(name, (self.random.standard_normal(shape) * scale).astype(kind))

    def constant(self, name: str, values) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, dtype=np.int64))

    def node(self, op: str, *inputs: str, out, **attributes) -> str:
        outputs = [out] if isinstance(out, str) else out
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **attributes))
        return outputs[0]

    def head(self, x: str, channels: int, classes: int = 4) -> str:
        pooled = self.node("GlobalAveragePool", x, out="pooled")
        flat = self.node("Flatten", pooled, out="flat")
        weight, bias = self.weight("head.w", channels, classes), self.weight("head.b", classes)
        return self.node("Gemm", flat, weight, bias, out="output", alpha=0.5, beta=2.0)

    def save(self, path: Path, classes: int = 4, element: int = FLOAT, batch="batch", **options) -> None:
        output = helper.make_tensor_value_info("output", element, [batch, classes])
        graph = helper.make_graph(self.nodes, path.stem, [self.input], [output], self.weights)
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=7 if self.opset < 17 else 8)
        onnx.save(model, path, **options)


def nhwc_uint8(path: Path) -> None:
    """Takes bytes with channels last, normalises them in the graph and ends in a softmax, as tf2onnx writes Keras models."""
    net = Hand(15, ["unk__1", 9, 8, 3], TensorProto.UINT8)
    net.node("Cast", "input", out="floats", to=FLOAT)
    net.node("Mul", "floats", net.constant("scale", np.float32(1 / 255)), out="unit")
    net.node("Sub", "unit", net.constant("mean", np.array([0.5, 0.4, 0.3], np.float32)), out="centred")
    net.node("Div", "centred", net.constant("std", np.array([0.2, 0.25, 0.3], np.float32)), out="normal")
    net.node("Transpose", "normal", out="image", perm=[0, 3, 1, 2])
    net.node("Conv", "image", net.weight("w", 6, 3, 3, 3), out="conv", auto_pad="SAME_UPPER", strides=[2, 2],
             kernel_shape=[3, 3])
    net.node("Add", "conv", net.weight("b", 1, 6, 1, 1), out="biased")
    net.node("Relu", "biased", out="relu")
    net.node("ReduceMean", "relu", out="pooled", axes=[2, 3], keepdims=0)
    net.node("MatMul", "pooled", net.weight("head.w", 6, 4), out="product")
    net.node("Add", "product", net.weight("head.b", 4), out="logits_")
    net.node("Softmax", "logits_", out="output")
    net.save(path)


def padding(path: Path) -> None:
    net = Hand(11, ["batch", 3, 9, 8])
    net.node("Conv", "input", net.weight("w", 4, 3, 3, 2), out="a", pads=[0, 1, 2, 0], dilations=[1, 2])
    net.node("MaxPool", "a", out="b", auto_pad="SAME_LOWER", kernel_shape=[3, 3], strides=[2, 2])
    net.node("AveragePool", "b", out="c", pads=[0, 1, 1, 0], kernel_shape=[2, 3])
    net.node("AveragePool", "c", out="d", pads=[1, 0, 0, 0], kernel_shape=[2, 2], count_include_pad=1)
    net.node("Pad", "d", net.ints("pads", 0, 0, 1, 0, 0, 0, 0, 2), net.constant("value", np.float32(0.7)), out="e")
    net.node("MaxPool", "e", out="f", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    net.head("f", 4)
    net.save(path)


def parts(path: Path) -> None:
    """Split, Slice and Gather, and shapes, including the batch, that are computed in the graph."""
    net = Hand(13, ["batch", 3, 8, 8])
    net.node("Conv", "input", net.weight("w", 7, 3, 1, 1), out="a")
    net.node("Split", "a", net.ints("lengths", 2, 4, 1), out=["s0", "s1", "s2"], axis=1)
    net.node("Slice", "s1", net.ints("starts", 0, -8), net.ints("ends", 2**63 - 1, 7), net.ints("axes", 3, 2),
             net.ints("steps", 2, 2), out="even")
    net.node("Slice", "s0", net.ints("s", 4, 0), net.ints("e", 8, 4), net.ints("x", 2, 3), out="corner")
    net.node("Gather", "a", net.ints("bgr", 2, 1, 0), out="turned", axis=1)
    net.node("MaxPool", "turned", out="small", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Concat", "even", "corner", "small", out="joined", axis=1)
    net.node("Shape", "joined", out="shape")
    net.node("Gather", "shape", net.constant("zero", np.int64(0)), out="n", axis=0)
    net.node("Unsqueeze", "n", net.ints("first", 0), out="n1")
    net.node("Concat", "n1", net.ints("rest", 9, -1), out="target", axis=0)
    net.node("Reshape", "joined", "target", out="rows")
    net.node("Gather", "rows", net.constant("five", np.int64(5)), out="row", axis=2)
    net.node("ReduceSum", "rows", net.ints("last", -1), out="sums", keepdims=0)
    net.node("Add", "row", "sums", out="both")
    net.node("Unsqueeze", "both", net.ints("wide", 2, 3), out="wider")
    net.node("Squeeze", "wider", net.ints("narrow", -1, 2), out="narrower")
    net.node("Gemm", "narrower", net.weight("head.w", 4, 9), out="output", transB=1)
    net.save(path)


def half(path: Path) -> None:
    """Half precision for input and output; weights stored as int32_data."""
    net = Hand(13, ["batch", 3, 6, 6], TensorProto.FLOAT16)
    for name, shape in (("w", (4, 3, 3, 3)), ("head.w", (4, 4))):
        values = (net.random.standard_normal(shape) * 0.25).astype(np.float16)
        net.weights.append(helper.make_tensor(name, TensorProto.FLOAT16, shape, values.flatten()))
    net.node("Conv", "input", "w", out="a", pads=[1, 1, 1, 1])
    net.node("LeakyRelu", "a", out="b", alpha=0.1)
    net.node("GlobalAveragePool", "b", out="c")
    net.node("Flatten", "c", out="d")
    net.node("Gemm", "d", "head.w", out="output")
    net.save(path, element=TensorProto.FLOAT16)


def fields(path: Path) -> None:
    """Weights in typed fields of several types, some in an external file; a fixed batch."""
    net = Hand(17, [1, 3, 6, 6])
    values = (net.random.standard_normal((4, 3, 1, 1)) * 0.5).astype(np.float32)
    net.weights.append(helper.make_tensor("w", FLOAT, values.shape, values.flatten()))
    doubles = net.random.standard_normal(4) * 0.5
    net.weights.append(helper.make_tensor("b64", TensorProto.DOUBLE, [4], doubles))
    net.node("Cast", "b64", out="b", to=FLOAT)
    net.node("Conv", "input", "w", "b", out="a")
    net.node("BatchNormalization", "a", net.constant("gamma", np.linspace(0.5, 1.5, 4, dtype=np.float32)),
             net.weight("beta", 4), net.weight("mean", 4),
             net.constant("var", np.linspace(0.25, 2.0, 4, dtype=np.float32)), out="n", epsilon=1e-3)
    shape = helper.make_tensor("shape_", TensorProto.INT64, [2], [1, -1])
    net.nodes.append(helper.make_node("Constant", [], ["shape"], value=shape))
    net.node("Reshape", "n", "shape", out="flat")
    net.node("Transpose", net.weight("head", 4, 144, scale=0.1), out="turned", perm=[1, 0])
    net.node("MatMul", "flat", "turned", out="output")
    net.save(path, batch=1, save_as_external_data=True, location="fields.weights", size_threshold=128)


def functions(path: Path) -> None:
    """Elementwise functions, including those composed of several operators."""
    net = Hand(20, ["batch", 3, 6, 6])
    net.node("Conv", "input", net.weight("w", 8, 3, 1, 1, scale=1.0), out="x")
    net.node("LeakyRelu", "x", out="a0", alpha=0.2)
    net.node("Elu", "a0", out="a1", alpha=0.7)
    net.node("PRelu", "a1", net.weight("slope", 8, 1, 1), out="a2")
    net.node("Mish", "a2", out="a3")
    net.node("Gelu", "a3", out="a4", approximate="tanh")
    net.node("Gelu", "a4", out="a5")
    net.node("HardSwish", "a5", out="a6")
    net.node("Softplus", "a6", out="a7")
    net.node("Pow", "a7", net.constant("three", np.float32(3)), out="a8")
    net.node("Sqrt", "a8", out="a9")
    net.node("Log", "a9", out="a10")
    net.node("Tanh", "a10", out="a11")
    net.node("Exp", "a11", out="a12")
    net.node("Reciprocal", "a12", out="a13")
    net.node("Neg", "a13", out="a14")
    net.node("Abs", "a14", out="a15")
    net.node("Clip", "a15", "", net.constant("top", np.float32(0.9)), out="a16")
    net.node("HardSigmoid", "a16", out="a17", alpha=0.3)
    net.node("Max", "a17", net.constant("least", np.float32(0.6)), "a4", out="a18")
    net.node("Sub", net.constant("one", np.float32(1)), "a18", out="a19")
    net.node("Div", "a19", net.weight("by", 1, 8, 1, 1, scale=1.0), out="a20")
    net.node("Sum", "a20", "a20", "x", out="a21")
    net.head("a21", 8)
    net.save(path)


def attention(path: Path) -> None:
    """Attention with one head over the pixels; ends in a logarithm of probabilities."""
    net = Hand(17, ["batch", 3, 4, 4])
    net.node("Reshape", "input", net.ints("seen", 0, 3, 16), out="rows")
    net.node("Transpose", "rows", out="tokens", perm=[0, 2, 1])
    for part in ("q", "k", "v"):
        net.node("MatMul", "tokens", net.weight(f"{part}.w", 3, 5), out=f"{part}.p")
        net.node("Add", f"{part}.p", net.weight(f"{part}.b", 5), out=part)
    net.node("Transpose", "k", out="kt", perm=[0, 2, 1])
    net.node("MatMul", "q", "kt", out="scores")
    net.node("Softmax", "scores", out="shares", axis=-1)
    net.node("MatMul", "shares", "v", out="mixed")
    net.node("LayerNormalization", "mixed", net.weight("ln.w", 5, scale=1.0), net.weight("ln.b", 5), out="normed")
    net.node("ReduceMean", "normed", out="mean", axes=[1], keepdims=0)
    net.node("Gemm", "mean", net.weight("head.w", 5, 4), out="z")
    net.node("LogSoftmax", "z", out="output", axis=1)
    net.save(path)


def record(path: Path) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [image] = session.get_inputs()
    shape = [size if isinstance(size, int) else 3 for size in image.shape]
    random = np.random.default_rng(1)
    kinds = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(float)": np.float32}
    kind = kinds[image.type]
    images = random.integers(0, 256, shape) if kind == np.uint8 else random.standard_normal(shape)
    images = images.astype(kind)
    [output] = session.run(["output"], {"input": images})
    np.save(path.with_suffix(".input.npy"), images.astype(np.float32))
    np.save(path.with_suffix(".output.npy"), output.astype(np.float32))


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    for name, block in (("squeeze_excite", SqueezeExcite), ("shuffle", Shuffle), ("norm_gelu", NormGelu)):
        torch.manual_seed(3)
        net = block()
        torchscript(folder / f"{name}.torchscript.onnx", net, 17)
        dynamo(folder / f"{name}.dynamo.onnx", net)
    torch.manual_seed(3)
    torchscript(folder / "norm_gelu.opset11.onnx", NormGelu(), 11)
    torch.manual_seed(3)
    for name, (net, side) in transformers().items():
        for parameter, values in net.named_parameters():
            if parameter.endswith(("class_token", "head.weight", "classifier.5.weight")):
                nn.init.normal_(values, std=0.5)
        dynamo(folder / f"{name}.dynamo.onnx", net, side)
        # TorchScript's files are some 200 KB each.
        if name in ("vit", "swin"):
            torchscript(folder / f"{name}.torchscript.onnx", net, 17, side)
        if name != "swin_v2":
            torchscript(folder / f"{name}.two.onnx", net, 17, side, free=False)
    for model in (nhwc_uint8, padding, parts, half, fields, functions, attention):
        model(folder / f"{model.__name__}.onnx")
    for path in sorted(folder.glob("*.onnx")):
        onnx.checker.check_model(str(path))
        record(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
