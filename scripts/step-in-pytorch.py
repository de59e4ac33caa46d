#!/usr/bin/env python3
"""The step that `cargo bench --bench train_step` times, as one writes it in PyTorch.

Two ResNets for CIFAR learn from one batch by all terms of CTSL-MKT (arXiv 2101.08471): the labels, frozen copies of
themselves at temperature 4, each other's responses, and the distances and angles between each other's embeddings; SGD
with momentum. PyTorch's own defaults hold: on a GPU its convolutions may round to TF32, its products may not.

    python3 scripts/step-in-pytorch.py --device cuda --batch 128 [--amp] [--compile]
"""
import argparse
import copy
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 100
WARM_UP = 3
TEMPERATURE = 4.0


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(*conv_bn(inputs, outputs, 3, stride), nn.ReLU(), *conv_bn(outputs, outputs, 3))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Student(nn.Module):
    """Returns logits and the pooled embedding before the classifier."""

    def __init__(self, depth: int, channels: int):
        super().__init__()
        layers = [*conv_bn(channels, 16, 3), nn.ReLU()]
        width = 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 6):
                layers.append(Residual(width, outputs, 2 if stage > 0 and block == 0 else 1))
                width = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.features(x).mean(dim=(2, 3))
        return self.classifier(embedding), embedding


def relations(embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances divided by their mean, and the cosines of all angles."""
    distances = torch.cdist(embedding, embedding)
    directions = F.normalize(embedding[None, :] - embedding[:, None], dim=2)
    return distances / distances[distances > 0].mean(), directions @ directions.transpose(1, 2)


def divergence(logits: torch.Tensor, target: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    ours, theirs = F.log_softmax(logits / temperature, 1), F.softmax(target.detach() / temperature, 1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16 by autocast")
    parser.add_argument("--compile", action="store_true", help="by torch.compile")
    for name, default in (("steps", 20), ("batch", 128), ("size", 32), ("channels", 3), ("depth", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    torch.manual_seed(0)
    students = [Student(args.depth, args.channels).to(args.device) for _ in range(2)]
    frozen = [copy.deepcopy(student).eval() for student in students]
    optimizers = [torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4) for student in students]
    images = torch.randn(args.batch, args.channels, args.size, args.size, device=args.device)
    labels = torch.randint(CLASSES, (args.batch,), device=args.device)

    def step() -> None:
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.amp):
            outputs = [student(images) for student in students]
            with torch.no_grad():
                past = [copy(images)[0].float() for copy in frozen]
            related = [relations(embedding.float()) for _, embedding in outputs]
            loss = 0.0
            for one, other in ((0, 1), (1, 0)):
                logits, peer = outputs[one][0].float(), outputs[other][0].float()
                (distances, cosines), (peer_distances, peer_cosines) = related[one], related[other]
                loss = loss + F.cross_entropy(logits, labels)
                loss = loss + divergence(logits, peer) + divergence(logits, past[one], TEMPERATURE)
                loss = loss + F.smooth_l1_loss(distances, peer_distances.detach())
                loss = loss + 2.0 * F.smooth_l1_loss(cosines, peer_cosines.detach())
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    timed = torch.compile(step) if args.compile else step
    seconds = []
    for index in range(WARM_UP + args.steps):
        start = time.perf_counter()
        timed()
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        if index >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"{args.device} torch {torch.__version__} threads {torch.get_num_threads()} batch {args.batch} size {args.size} "
          f"depth {args.depth} amp {args.amp} compile {args.compile}: median step {1e3 * median:.1f} ms, "
          f"{args.batch / median:.1f} images/s")


main()
