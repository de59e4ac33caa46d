#!/usr/bin/env python3
"""Records the steps of PyTorch's optimisers, with which a test compares ours.

    python3 scripts/reference-optimizers.py > tests/reference/optimizers.json

Needs PyTorch (2.11 made the file that is kept). A linear layer of 3 to 2 features, five steps with
given gradients and learning rates, in float64.
"""
import json

import torch

CASES = [
    {"sgd": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}},
    {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}},
    {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
    {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}},
    {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3, "decay_norms": False}},
    {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "clip": 0.5}},
    {"adamw": {"lr": 0.01, "weight_decay": 0.0}},
    {"adamw": {"lr": 0.01, "weight_decay": 0.3}},
    {"adamw": {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.3, "decay_norms": False}},
    {"adamw": {"lr": 0.01, "weight_decay": 0.1, "clip": 0.2}},
]
FACTORS = [1.0, 1.0, 0.5, 0.25, 0.125]


def run(case):
    generator = torch.Generator().manual_seed(5)
    draw = lambda *size: torch.randn(*size, generator=generator).float()  # values float32 holds exactly
    weight, bias = (torch.nn.Parameter(draw(*size).double()) for size in ((2, 3), (2,)))
    (name, settings), = case.items()
    settings = dict(settings)
    clip, decay_norms = settings.pop("clip", None), settings.pop("decay_norms", True)
    decay = settings.pop("weight_decay")
    groups = [{"params": [weight], "weight_decay": decay},
              {"params": [bias], "weight_decay": decay if decay_norms else 0.0}]
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    optimizer = kind(groups, **settings)
    flat = lambda tensors: [float(value) for tensor in tensors for value in tensor.detach().flatten()]
    start, steps = flat([weight, bias]), []
    for factor in FACTORS:
        gradients = [draw(2, 3), draw(2)]
        weight.grad, bias.grad = (gradient.double() for gradient in gradients)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([weight, bias], clip)
        rate = settings["lr"] * factor
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        steps.append([rate, flat(gradients), flat([weight, bias])])
    return {"optimizer": case, "start": start, "steps": steps}


print(json.dumps([run(case) for case in CASES], indent=1))
