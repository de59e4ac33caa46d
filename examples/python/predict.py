#!/usr/bin/env python3
"""Classifies images with a file that Cohort exported, in Python: the same preparation as `cohort predict`.

usage: predict.py MODEL.onnx IMAGE...

Needs numpy, Pillow and onnxruntime. The file says itself how images are prepared: one JSON document under the metadata key
`cohort`. Copy `prepare` and what it calls into a program that uses such a file.
"""
import json
import sys

import numpy
import onnxruntime
from PIL import Image, ImageOps

# Weights of red, green and blue in grey (ITU-R BT.709), in 10,000ths.
GREY = numpy.array([2126, 7152, 722])


def decode(path, channels):
    """The pixels of an image file as it is meant to be looked at: bytes [height, width, channels], 1 (grey) or 3 (RGB)."""
    image = Image.open(path)  # Of several images in a file, the first.
    try:
        image = ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, OSError) as error:  # An unreadable EXIF block turns nothing, a truncated image is an error.
        image.load()
        print(f"{path}: EXIF is not readable: {error}", file=sys.stderr)
    if image.mode.startswith("I"):  # 16-bit grey, which `convert` would cut off at 255.
        pixels = (numpy.asarray(image).astype(numpy.uint32) + 128) // 257
        grey = pixels.astype(numpy.uint8)[..., None]
        return grey if channels == 1 else numpy.repeat(grey, 3, axis=2)
    if image.mode in ("L", "LA", "La", "1"):  # `convert` drops an alpha channel.
        grey = numpy.asarray(image.convert("L"))[..., None]
        return grey if channels == 1 else numpy.repeat(grey, 3, axis=2)
    rgb = numpy.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))[..., :3]
    if channels == 3:
        return rgb
    return (rgb.astype(numpy.uint32) @ GREY // 10_000).astype(numpy.uint8)[..., None]


def resized_size(size, box, covers):
    """The size [height, width], with the image's aspect ratio, that just covers a box or just fits in it."""
    (height, width), (box_height, box_width) = size, box
    wider = width * box_height >= height * box_width
    if wider == covers:
        return box_height, max(width * box_height // height, 1)
    return max(height * box_width // width, 1), box_width


def resize(pixels, height, width):
    """Bilinear with antialiasing, as Pillow does it."""
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)
              for plane in pixels.transpose(2, 0, 1)]
    return numpy.stack([numpy.asarray(plane) for plane in planes], axis=2)


def fitted(pixels, height, width, fit):
    """Brings pixels [rows, columns, channels] to height and width."""
    size = pixels.shape[:2]
    if fit == "stretch":
        return resize(pixels, height, width)
    if fit == "crop":  # The middle of an image that is larger by 1 / 0.875.
        rows, columns = resized_size(size, (height * 8 // 7, width * 8 // 7), True)
        # Python rounds half a pixel to an even number, as this cut does.
        top, left = round((rows - height) / 2), round((columns - width) / 2)
        return resize(pixels, rows, columns)[top:top + height, left:left + width]
    if fit == "letterbox":  # The whole image, on black.
        rows, columns = resized_size(size, (height, width), False)
        top, left = (height - rows) // 2, (width - columns) // 2
        boxed = numpy.zeros((height, width, pixels.shape[2]), numpy.uint8)
        boxed[top:top + rows, left:left + columns] = resize(pixels, rows, columns)
        return boxed
    raise ValueError(f"unknown fit: {fit}")


def prepare(path, meta, channels_last=False):
    """An image file as the network's input: float32, a batch of one."""
    channels, height, width = meta["input"]
    if meta["resize"] != "bilinear-antialiased":
        raise ValueError(f"unknown filter: {meta['resize']}")
    pixels = fitted(decode(path, channels), height, width, meta.get("fit", "stretch"))
    if meta["channel_order"] == "bgr":
        pixels = pixels[..., ::-1]
    values = pixels.astype(numpy.float32) / {"0..1": 255, "0..255": 1}[meta["range"]]
    values = (values - numpy.float32(meta["mean"])) / numpy.float32(meta["std"])
    return values[None] if channels_last else numpy.ascontiguousarray(values.transpose(2, 0, 1))[None]


class Classifier:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.meta = json.loads(self.session.get_modelmeta().custom_metadata_map["cohort"])
        [self.input] = self.session.get_inputs()
        self.channels_last = self.input.shape[1:] != self.meta["input"]
        scores = [output.name for output in self.session.get_outputs()
                  if output.shape[1:] == [len(self.meta["classes"])]]
        self.output = "logits" if "logits" in scores else scores[0]

    def __call__(self, path):
        """Classes and their probabilities, the most likely first."""
        image = prepare(path, self.meta, self.channels_last)
        image = image.astype({"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16}[self.input.type])
        scores = self.session.run([self.output], {self.input.name: image})[0][0].astype(numpy.float64)
        if scores.min() < 0 or abs(scores.sum() - 1) > 1e-3:  # Logits, not probabilities.
            scores = numpy.exp(scores - scores.max())
        scores /= scores.sum()
        return [(self.meta["classes"][place], scores[place]) for place in numpy.argsort(-scores, kind="stable")]


def main(model, images):
    classifier = Classifier(model)
    for image in images:
        likeliest = ", ".join(f"{name} {100 * share:.1f} %" for name, share in classifier(image)[:5])
        print(f"{image}: {likeliest}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
