#!/usr/bin/env python3
"""Trains a wide ResNet on Fashion-MNIST in plain PyTorch and exports it as people do: a teacher from elsewhere.

usage: train-fashion-teacher.py FOLDER [--data DIR] [--epochs N] [--seed S] [--bf16]

DIR holds {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz; without it, $COHORT_DATA/fashion-mnist.

The network is a WRN-16-2 (Zagoruyko & Komodakis 2016, arXiv 1605.07146) for grey 28 x 28 images, with BatchNorm after
each convolution, so that every pair folds into one convolution. It learns from all 60,000 training images: no
validation part is held back and no epoch is picked, so the 10,000 test images are looked at once, after training.

FOLDER receives wrn.torchscript.onnx and wrn.dynamo.onnx, the folded network from both of PyTorch's exporters with a
free batch, and wrn.json. Pixels are scaled to 0..1, less MEAN, divided by STD. checkpoint.pt is written after every
epoch; the same command continues from it. With --bf16, convolutions and products are in bfloat16 while training, which
is about 1.7 times as fast on a processor with AVX512-BF16 and slow on others; weights and exports are float32.

Needs torch, onnx, onnxscript and onnxruntime.
"""
import argparse
import gzip
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

MEAN, STD = 0.2860, 0.3530
CLASSES = 10
SIZE = 28
DEPTH, WIDTH = 16, 2
BATCH = 128
PEAK_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
PADDING = 2
# Logits are of the order of 10, and float32 keeps about seven digits.
LARGEST_DIFFERENCE = 1e-3


class ConvNorm(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(ConvNorm(inputs, outputs, 3, stride), nn.ReLU(), ConvNorm(outputs, outputs, 3))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def wide_resnet() -> nn.Sequential:
    layers, width = [ConvNorm(1, 16, 3), nn.ReLU()], 16
    for stage, outputs in enumerate((16 * WIDTH, 32 * WIDTH, 64 * WIDTH)):
        for block in range((DEPTH - 4) // 6):
            layers.append(Residual(width, outputs, 2 if stage > 0 and block == 0 else 1))
            width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def folded(net: nn.Module) -> nn.Module:
    """`net`, in evaluation mode, with every pair of convolution and BatchNorm replaced by one convolution."""
    for name, module in net.named_children():
        if isinstance(module, ConvNorm):
            setattr(net, name, fuse_conv_bn_eval(*module))
        else:
            folded(module)
    return net


def read_idx(folder: Path, name: str) -> torch.Tensor:
    """The bytes of an idx file as a tensor, of the shape that its header states."""
    plain = folder / name
    content = plain.read_bytes() if plain.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())


def read_split(folder: Path, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images [count, 1, height, width] and labels [count]."""
    images = read_idx(folder, f"{prefix}-images-idx3-ubyte").float().div_(255).sub_(MEAN).div_(STD)
    return images[:, None], read_idx(folder, f"{prefix}-labels-idx1-ubyte").long()


def augmented(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Every image at a random place of its padded self, and every second one mirrored."""
    count = len(images)
    black = (0 - MEAN) / STD
    places = F.pad(images, [PADDING] * 4, value=black).unfold(2, SIZE, 1).unfold(3, SIZE, 1)
    row, column = torch.randint(2 * PADDING + 1, (2, count), generator=random)
    cropped = places[torch.arange(count), :, row, column]
    mirror = torch.rand(count, 1, 1, 1, generator=random) < 0.5
    return torch.where(mirror, cropped.flip(3), cropped)


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int, bf16: bool,
          checkpoint: Path) -> float:
    """Returns the seconds that all epochs took, those before a checkpoint included."""
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(net.parameters(), PEAK_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, epochs * steps)
    parts = {"net": net, "optimizer": optimizer, "schedule": schedule}
    run = {"epochs": epochs, "seed": seed, "bf16": bf16, "images": len(images)}
    done, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        if saved["run"] != run:
            raise SystemExit(f"{checkpoint} is of another run, {saved['run']}; remove it or name another folder")
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        done, seconds = saved["done"], saved["seconds"]

    for epoch in range(done, epochs):
        # Each epoch has a generator of its own, so that a continued run draws the same numbers.
        random = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(len(images), generator=random)
        start, total, right = time.perf_counter(), 0.0, 0
        net.train()
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            views = augmented(images[batch], random).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = net(views)
            loss = F.cross_entropy(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            right += (logits.argmax(1) == labels[batch]).sum().item()
            if (step + 1) % 50 == 0:
                rate = (step + 1) / (time.perf_counter() - start)
                print(f"  step {step + 1} of {steps}, loss {total / (step + 1):.4f}, {rate:.1f} steps/s", flush=True)
        seconds += time.perf_counter() - start
        saved = {name: part.state_dict() for name, part in parts.items()}
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save({**saved, "run": run, "done": epoch + 1, "seconds": seconds}, unfinished)
        unfinished.replace(checkpoint)
        seen = steps * BATCH
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.4f}, accuracy on augmented training images "
              f"{100 * right / seen:.2f} %, {seconds:.0f} s so far", flush=True)
    return seconds


def logits_of(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([net(part) for part in images.split(500)])


def export(net: nn.Module, path: Path, dynamo: bool) -> None:
    names = {"input_names": ["input"], "output_names": ["output"]}
    if dynamo:
        # An example batch of 1 would be taken for a fixed one.
        torch.onnx.export(net, (torch.randn(2, 1, SIZE, SIZE),), str(path), dynamo=True, external_data=False,
                          dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False, **names)
    else:
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        torch.onnx.export(net, (torch.randn(1, 1, SIZE, SIZE),), str(path), dynamo=False, dynamic_axes=axes, **names)


def check_export(path: Path, images: torch.Tensor, expected: torch.Tensor) -> None:
    """Compares ONNX Runtime with PyTorch, in batches of 1 and of 500."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [images[:1], *images[1:].split(500)]
    found = np.concatenate([session.run(["output"], {"input": part.numpy()})[0] for part in parts])
    difference = np.abs(found - expected.numpy()).max()
    print(f"{path}: largest difference of a logit {difference:.1e} over {len(images)} images", flush=True)
    if not difference <= LARGEST_DIFFERENCE:
        raise SystemExit(f"{path} does not compute what PyTorch computes")


def main(folder: Path, data: Path, epochs: int, seed: int, bf16: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    torch.manual_seed(seed)
    net = wide_resnet().to(memory_format=torch.channels_last)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(f"{parameters:,} parameters", flush=True)
    seconds = train(net, *read_split(data, "train"), epochs, seed, bf16, folder / "checkpoint.pt")

    images, labels = read_split(data, "t10k")
    net.eval()
    unfolded = logits_of(net, images)
    net = folded(net).to(memory_format=torch.contiguous_format)
    logits = logits_of(net, images)
    print(f"folding changes a logit by {(logits - unfolded).abs().max():.1e} at most")
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    print(f"test accuracy {100 * accuracy:.2f} %")
    for exporter, dynamo in (("torchscript", False), ("dynamo", True)):
        path = folder / f"wrn.{exporter}.onnx"
        export(net, path, dynamo)
        check_export(path, images, logits)
    facts = {"test_accuracy": round(accuracy, 6), "seed": seed, "epochs": epochs, "bf16": bf16, "mean": MEAN,
             "std": STD, "parameters": parameters, "seconds": round(seconds, 1),
             "folded_parameters": sum(parameter.numel() for parameter in net.parameters())}
    (folder / "wrn.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="default: $COHORT_DATA/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if args.data is None and "COHORT_DATA" not in os.environ:
        parser.error("name the data: --data DIR, or COHORT_DATA")
    source = args.data or Path(os.environ["COHORT_DATA"]) / "fashion-mnist"
    main(args.folder, source, args.epochs, args.seed, args.bf16)
