#!/usr/bin/env python3
"""Which widths serve better after a whole training: the best uniform and the best global part of a classifier, each trained from
labels and original without the other.

usage: scripts/compare-widths.py COHORT OUT MODEL.onnx DATA TARGET EPOCHS SEEDS [options of `cohort compress`]

    scripts/compare-widths.py target/release/cohort /tmp/widths runs/quickstart/04-export/big.onnx pipelines/quickstart.yaml \
        'macs<=20%' 60 1,2,3 --batch 32

The parts are the best of their kind after the plan's trial; a plan that is in OUT is used again. Prints one line for each part and
seed.
"""

import json
import subprocess
import sys
from pathlib import Path

KINDS = ["uniform", "global"]


def main(cohort, out, model, data, target, epochs, seeds, *more):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plan = out / "plan.json"
    if not plan.exists():
        command = [cohort, "compress", model, "--data", data, "--target", target, "--epochs", epochs]
        planned = printed([*command, "--plan", "--json", "--out", out / "plan", *more])
        plan.write_text(json.dumps(planned))
    # The plan has the best after its trial first.
    students = json.loads(plan.read_text())["students"]
    kind_of = lambda student: student["student"]["name"].split("-")[0]
    best = [next((one for one in students if kind_of(one) == kind), None) for kind in KINDS]
    if None in best:
        sys.exit(f"error: the plan has no {' or no '.join(k for k, one in zip(KINDS, best) if one is None)} part")
    changes = {
        "cohort": json.dumps([one["student"] for one in best]),
        "stages.collaborate.method": "plain",
        "stages.collaborate.loss": "{teacher: 1}",
        "stages.select": "{}",
        **{f"stages.{stage}": "null" for stage in ["export", "verify", "bench", "report"]},
    }
    for seed in seeds.split(","):
        command = [cohort, "run", out / "plan" / "pipeline.yaml", "--json", "--quiet", "--out", out / f"seed-{seed}"]
        for key, value in [*changes.items(), ("seed", seed)]:
            command += ["--set", f"{key}={value}"]
        found = {one["name"]: one for one in printed(command)["students"]}
        for one in best:
            name = one["student"]["name"]
            accuracy = found[name]["accuracy"]
            test = accuracy["test"] if accuracy["test"] is not None else float("nan")
            tried = (one["after_trial"] or {"accuracy": float("nan")})["accuracy"]
            print(
                f"{name:16} {one['params']:>10,} parameters {one['macs']:>12,} MACs, tried {tried:7.2%}; "
                f"seed {seed}: validation {accuracy['validation']:7.2%}, test {test:7.2%}",
                flush=True,
            )


def printed(command):
    """The JSON document that a command prints."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


if __name__ == "__main__":
    if len(sys.argv) < 8:
        sys.exit(__doc__)
    main(*sys.argv[1:])
