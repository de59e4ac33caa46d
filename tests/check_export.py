#!/usr/bin/env python3
"""Checks a run's export with Python's onnx checker and onnxruntime, which share no code with Cohort.

usage: check_export.py RUN_FOLDER

The file must pass the full checker, with strict shape inference, and give the logits that the run
recorded from its checkpoint in float64, one image at a time and all at once.
"""
import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime

# The limits of `verify` for ONNX Runtime on the CPU, and for half precision in any engine:
# |found - truth| <= atol * rms(truth of the sample) + rtol * |truth|.
SINGLE, HALF = (1e-5, 1e-4), (5e-3, 1e-2)


def main(run: Path) -> None:
    path = run / "04-export/student.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    [image] = model.graph.input
    batch = image.type.tensor_type.shape.dim[0]
    assert batch.dim_param, "the batch is not symbolic"
    assert {output.name for output in model.graph.output} >= {"logits"}
    metadata = json.loads({entry.key: entry.value for entry in model.metadata_props}["cohort"])
    assert len(metadata["mean"]) == len(metadata["std"]) == metadata["input"][0]
    assert metadata["channel_order"] == {1: "gray", 3: "rgb"}[metadata["input"][0]]
    assert (metadata["resize"], metadata["range"]) == ("bilinear-antialiased", "0..1")
    assert metadata["accuracy"]["right"] <= metadata["accuracy"]["images"]

    inputs = numpy.load(run / "05-verify/inputs.npy")
    truth = numpy.load(run / "05-verify/logits.npy")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scale = numpy.maximum(numpy.sqrt((truth**2).mean(axis=1, keepdims=True)), 1e-6)
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    atol, rtol = HALF if half else SINGLE
    allowed = atol * scale + rtol * numpy.abs(truth)
    for size in (1, 3, len(inputs)):
        parts = [inputs[start:start + size] for start in range(0, len(inputs), size)]
        found = numpy.concatenate([session.run(["logits"], {image.name: part})[0] for part in parts])
        used = (numpy.abs(found - truth) / allowed).max()
        assert found.shape == truth.shape and used <= 1.0, f"batch {size}: {used:.2f} times the tolerance"
        assert (found.argmax(axis=1) == truth.argmax(axis=1)).all(), f"batch {size}: another decision"
        print(f"batch {size}: {len(inputs)} images within {used:.3f} of the tolerance")
    print(f"{path}: onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__} agree with the run")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
