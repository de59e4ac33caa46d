#!/usr/bin/env python3
"""Records three training steps by all terms of CTSL-MKT in PyTorch, with which a test compares ours.

    python3 scripts/reference-step.py > tests/reference/step.json

Needs PyTorch (2.11 made the file that is kept). Two ResNet-20 on one batch, self-distillation from
frozen copies at temperature 4, mutual responses, distances and angles, SGD, in float64. Weights and images come
from a small generator that the test has too, so that the file holds nothing but what was measured.
"""
import copy
import json

import torch
import torch.nn.functional as F

DEPTH, CLASSES, BATCH, SIZE, STEPS = 20, 100, 16, 16, 3


def noise(count, seed):
    """Values in -1..1 that float32 holds exactly."""
    values, state = [], seed
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 16) / 32768 - 1)
    return torch.tensor(values, dtype=torch.float64)


class Net:
    """ResNet for CIFAR with the parameter names that Cohort uses."""

    def __init__(self, seed):
        self.params, self.stats, self.seed = {}, {}, seed

    def param(self, name, shape, scale):
        if name not in self.params:
            seed = self.seed * 1000 + len(self.params)
            count = torch.Size(shape).numel()
            value = torch.ones(shape, dtype=torch.float64) if scale is None else noise(count, seed).reshape(shape) * scale
            self.params[name] = value.requires_grad_(True)
        return self.params[name]

    def conv_bn(self, scope, number, x, channels, kernel, stride):
        weight = self.param(f"{scope}.conv{number}.weight", (channels, x.shape[1], kernel, kernel),
                            2.0 ** -4)
        x = F.conv2d(x, weight, stride=stride, padding=kernel // 2)
        name = f"{scope}.bn{number}"
        scale, offset = self.param(f"{name}.weight", (channels,), None), self.param(f"{name}.bias", (channels,), 2.0 ** -4)
        mean, variance = self.stats.setdefault(name, (torch.zeros(channels).double(), torch.ones(channels).double()))
        return F.batch_norm(x, mean, variance, scale, offset, self.training, 0.1, 1e-5)

    def __call__(self, x, training):
        self.training = training
        x = F.relu(self.conv_bn("stem", "", x, 16, 3, 1))
        for stage in range(3):
            for block in range((DEPTH - 2) // 6):
                stride, channels = (2 if stage > 0 and block == 0 else 1), 16 << stage
                scope = f"stage{stage + 1}.{block}"
                y = F.relu(self.conv_bn(scope, "1", x, channels, 3, stride))
                y = self.conv_bn(scope, "2", y, channels, 3, 1)
                if stride != 1 or x.shape[1] != channels:
                    x = self.conv_bn(f"{scope}.shortcut", "", x, channels, 1, stride)
                x = F.relu(y + x)
        embedding = x.mean((2, 3))
        weight = self.param("classifier.weight", (CLASSES, 64), 2.0 ** -3)
        bias = self.param("classifier.bias", (CLASSES,), 2.0 ** -3)
        return embedding @ weight.t() + bias, embedding


def relations(embedding):
    distances = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")
    directions = F.normalize(embedding[None] - embedding[:, None], dim=2)
    return distances / distances[distances > 0].mean(), directions @ directions.transpose(1, 2)


def divergence(target, student, t):
    log_p, log_q = F.log_softmax(target.detach() / t, 1), F.log_softmax(student / t, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * t * t


images = noise(BATCH * 3 * SIZE * SIZE, 7).reshape(BATCH, 3, SIZE, SIZE)
labels = torch.tensor([(7 * index) % CLASSES for index in range(BATCH)])
students = [Net(1), Net(2)]
for student in students:
    student(images, False)  # makes the parameters
frozen = copy.deepcopy(students)
optimizers = [torch.optim.SGD(s.params.values(), 0.05, 0.9, weight_decay=5e-4) for s in students]
steps = []
for _ in range(STEPS):
    said = [student(images, True) for student in students]
    with torch.no_grad():
        past = [net(images, False)[0] for net in frozen]
    related, row, total = [relations(embedding) for _, embedding in said], [], 0
    for k in range(2):
        logits, peer = said[k][0], said[1 - k][0]
        terms = {
            "cross_entropy": F.cross_entropy(logits, labels),
            "distance": F.smooth_l1_loss(related[k][0], related[1 - k][0].detach()),
            "angle": F.smooth_l1_loss(related[k][1], related[1 - k][1].detach()),
            "response": divergence(peer, logits, 1.0),
            "self_distillation": divergence(past[k], logits, 4.0),
        }
        total = total + sum(value * (2 if name == "angle" else 1) for name, value in terms.items())
        row.append({name: float(value.detach()) for name, value in terms.items()})
    for optimizer in optimizers:
        optimizer.zero_grad()
    total.backward()
    for optimizer in optimizers:
        optimizer.step()
    steps.append(row)
print(json.dumps(steps, indent=1))
