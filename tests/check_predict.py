#!/usr/bin/env python3
"""Checks that examples/python/predict.py prepares images as `cohort predict` does.

usage: check_predict.py COHORT

The network is the identity: its scores are the prepared pixels and one more that is 0, so that probabilities give back every
pixel. Images are of the kinds that differ between libraries: EXIF orientations, 16 bit, alpha, palettes, CMYK, grey.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "examples/python"))
import predict  # noqa: E402

SIZES = [(9, 14), (16, 16), (12, 10)]
# Scores are prepared pixels divided by this, so that no probability is too small.
STD = 0.25


def identity(path, shape, fit, order, channels_last):
    """A file whose logits are the pixels, and one that is 0."""
    channels, height, width = shape
    axes = [height, width, channels] if channels_last else shape
    pixels = channels * height * width
    meta = {
        "classes": [f"pixel {index}" for index in range(pixels)] + ["zero"], "input": shape, "channel_order": order,
        "resize": "bilinear-antialiased", "fit": fit, "range": "0..1",
        "mean": [0.1 * index for index in range(channels)], "std": [STD] * channels, "student": "identity", "run": "check",
    }
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1, 1], [0.0])
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("Concat", ["flat", "zero"], ["logits"], axis=1)],
        "identity", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *axes])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, pixels + 1])], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="cohort", value=json.dumps(meta))
    onnx.save(model, path)


def pixels(classes):
    """The pixels, on the scale of bytes, from the probabilities of all classes by name."""
    chances = numpy.array([chance for _, chance in sorted(classes.items(), key=lambda one: order_of(one[0]))])
    return (numpy.log(chances[:-1]) - numpy.log(chances[-1])) * STD * 255


def order_of(name):
    return float("inf") if name == "zero" else int(name.split()[1])


def save_images(folder):
    rows, columns = numpy.mgrid[0:33, 0:45]
    rgb = numpy.stack([rows * 7, columns * 5, (rows * columns) % 251], axis=2).astype(numpy.uint8)
    picture = Image.fromarray(rgb)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("jpg", "png", "webp", "tiff"):
            lossless = {"lossless": True} if kind == "webp" else {}
            picture.save(folder / f"turned-{orientation}.{kind}", exif=exif, **lossless)
    wide = (rows * 1500 + columns * 300).astype(numpy.uint16)
    Image.fromarray(wide).save(folder / "grey-16-bit.png")
    Image.fromarray(wide).save(folder / "grey-16-bit.tiff")
    alpha = Image.fromarray((rows * 5).astype(numpy.uint8))
    clear = picture.copy()
    clear.putalpha(alpha)
    for kind in ("png", "tiff"):
        clear.save(folder / f"alpha.{kind}")
    clear.save(folder / "alpha.webp", lossless=True, exact=True)
    grey = Image.fromarray(rgb[..., 2])
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.jpg")
    both = grey.copy()
    both.putalpha(alpha)
    both.save(folder / "grey-alpha.png")
    grey.convert("1").save(folder / "one-bit.png")
    palette = picture.quantize(64)
    palette.save(folder / "palette.png")
    palette.save(folder / "palette-clear.png", transparency=3)
    palette.save(folder / "palette.bmp")
    palette.save(folder / "frames.gif", save_all=True, append_images=[grey.convert("P")])
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.save(folder / "progressive.jpg", progressive=True)
    picture.save(folder / "plain.bmp")
    whole = (folder / "turned-6.jpg").read_bytes()
    broken = whole.replace(b"II*\0", b"II*\xff", 1).replace(b"MM\0*", b"MM\xff*", 1)
    assert broken != whole
    (folder / "broken-exif.jpg").write_bytes(broken)


def main(cohort):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images = folder / "images"
        images.mkdir()
        save_images(images)
        paths = sorted(map(str, images.iterdir()))
        worst, compared = {}, 0
        for channels, order in [(1, "gray"), (3, "rgb"), (3, "bgr")]:
            for fit in ("stretch", "crop", "letterbox"):
                for place, (height, width) in enumerate(SIZES):
                    model = folder / "identity.onnx"
                    identity(model, [channels, height, width], fit, order, channels_last=place == 1)
                    # Every class: so many are printed.
                    ask = [cohort, "predict", "--json", "--top", "100000", str(model), *paths]
                    told = json.loads(subprocess.run(ask, check=True, capture_output=True).stdout)
                    assert [one["image"] for one in told] == paths
                    classifier = predict.Classifier(model)
                    for one in told:
                        expected = pixels({entry["class"]: entry["probability"] for entry in one["classes"]})
                        found = pixels(dict(classifier(one["image"])))
                        name = Path(one["image"]).name
                        worst[name] = max(worst.get(name, 0), abs(found - expected).max())
                        compared += 1
        for name, off in sorted(worst.items(), key=lambda one: -one[1]):
            print(f"{name}: at most {off:.2f} levels of 255 apart")
        # Filters and decoders may round differently in each of two steps.
        far = {name: off for name, off in worst.items() if off > 2.05}
        assert not far, f"another preparation: {far}"
        print(f"{compared} images of {len(paths)} kinds prepared alike")


if __name__ == "__main__":
    main(sys.argv[1])
