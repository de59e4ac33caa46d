#!/usr/bin/env python3
"""Exports torchvision's classifiers as people do, for `make foreign` to import. When they are named, also resnet20 and
vgg8, networks for small images as students are.

usage: foreign-models.py FOLDER [MODEL ...] [--free]

With --free, only those with a free batch are written.

Each model is written by both of PyTorch's exporters, with a fixed and with a free batch:
MODEL.EXPORTER.BATCH.onnx. Weights are random, and the statistics of BatchNorm are those of random
images, smooth ones and noise; all come from a seed. Files that are there already are kept.
"""
import sys
import warnings
from pathlib import Path

import torch
import torchvision

MODELS = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
          "densenet121", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "googlenet",
          "inception_v3", "resnext50_32x4d", "wide_resnet50_2", "alexnet", "mnasnet0_5", "resnet50"]
SIZE = 224
SMALL_SIZE = 32


def resnet20() -> torch.nn.Module:
    """ResNet-20 for 32 x 32 images (He et al. 2016, arXiv 1512.03385), shortcuts by 1 x 1 convolutions."""
    from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

    layers, width = [conv3x3(3, 16), torch.nn.BatchNorm2d(16), torch.nn.ReLU()], 16
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = None
            if stride == 2:
                shortcut = torch.nn.Sequential(conv1x1(width, channels, 2), torch.nn.BatchNorm2d(channels))
            layers.append(BasicBlock(width, channels, stride, shortcut))
            width = channels
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 100))


def vgg8() -> torch.nn.Module:
    """VGG with one convolution per stage, for 32 x 32 images."""
    layers, width = [], 3
    for channels in (64, 128, 256, 512, 512):
        pool = [torch.nn.MaxPool2d(2)] if channels != width else []
        layers += [torch.nn.Conv2d(width, channels, 3, padding=1), torch.nn.BatchNorm2d(channels), torch.nn.ReLU(), *pool]
        width = channels
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, 100))


SMALL = {"resnet20": resnet20, "vgg8": vgg8}


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(7)
    net = SMALL[name]() if name in SMALL else torchvision.models.get_model(name, weights=None)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.1)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    net.eval()
    # The statistics of every BatchNorm are the means over some batches, as training leaves them.
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    side = SMALL_SIZE if name in SMALL else SIZE
    with torch.no_grad():
        for batch in range(4 if norms else 0):
            coarse = torch.rand(4, 3, side // 16, side // 16)
            smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
            noise = 2 * torch.rand(4, 3, side, side) - 1
            net(noise if batch % 2 else smooth + 0.2 * noise)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def export(net: torch.nn.Module, path: Path, dynamo: bool, free: bool, size: int) -> None:
    example = torch.randn(2 if free and dynamo else 1, 3, size, size)
    names = {"input_names": ["input"], "output_names": ["output"]}
    if dynamo:
        shapes = ({0: torch.export.Dim("batch")},) if free else None
        torch.onnx.export(net, (example,), str(path), dynamo=True, external_data=True, dynamic_shapes=shapes,
                          verbose=False, **names)
    else:
        axes = {"input": {0: "batch"}, "output": {0: "batch"}} if free else None
        torch.onnx.export(net, (example,), str(path), dynamo=False, dynamic_axes=axes, **names)


def main(folder: Path, models: list[str], batches: dict[str, bool]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    for name in models:
        net = network(name)
        for exporter, dynamo in (("torchscript", False), ("dynamo", True)):
            for batch, free in batches.items():
                path = folder / f"{name}.{exporter}.{batch}.onnx"
                if not path.exists():
                    export(net, path, dynamo, free, SMALL_SIZE if name in SMALL else SIZE)
                    print(path, flush=True)


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--free"]
    if not names:
        sys.exit(__doc__)
    kinds = {"free": True} if "--free" in sys.argv else {"fixed": False, "free": True}
    main(Path(names[0]), names[1:] or MODELS, kinds)
