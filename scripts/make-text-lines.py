#!/usr/bin/env python3
"""Renders lines of text, upright and turned by 180 degrees: images for a classifier of the direction of text.

usage: make-text-lines.py FOLDER [--count N] [--seed S]

FOLDER receives {train,val,test}/{0,180}/*.png: N lines per class to train on (default 2000), and a tenth of N for each
of the other two splits. Every image is a line of its own; none is there both upright and turned.

Lines are words, names, codes, dates, prices and numbers in Debian's fonts, in random sizes and colours on plain, shaded
or blotchy ground, tilted by up to 3 degrees, with slight blur and noise. They are 40 to 56 pixels high and about
four times as wide, since such classifiers take 192 x 48 pixels: a plain resize to that size hardly distorts them.

Each image depends on the seed, its split, class and number alone; with the same fonts and the same Pillow and NumPy, it
is the same to the byte. Needs Pillow and NumPy, and at least one of the packages fonts-dejavu, fonts-liberation and
fonts-noto-core.
"""
import argparse
import random
import re
import string
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = Path("/usr/share/fonts")
PACKAGES = "fonts-dejavu fonts-liberation fonts-noto-core"
# The families with Latin letters; what else is installed must not change the images.
FAMILIES = re.compile(
    r"(DejaVu(Sans|Serif)(Mono|Condensed)?|Liberation(Sans|SansNarrow|Serif|Mono)|Noto(Sans|Serif)(Display|Mono)?)"
    r"(-\w+)?\.ttf")
HEIGHTS = (40, 56)
RATIOS = (3.5, 4.5)
MARGINS = (2, 7)
TILT_DEGREES = 3.0
# Glyphs are drawn larger than needed and then reduced, so that tilting costs no sharpness.
DRAWN_SIZE = 96
# The least distance of text and ground in brightness, of 255.
CONTRAST = 90
# A line needs some characters that do not look like others when turned, as "SOS", "pod" and "1961" do.
TELLING = set("aAcCeEfFgGhjJkKLmPQrRtTvVyY347")
LEAST_TELLING = 2

WORDS = """
about account address after airport amount apple autumn bakery balance basket before between bicycle bottle bridge
brother camera captain castle centre chapter cheese church client coffee collect company corner cotton country customer
daily delivery desert doctor double driver early easy editor engine evening every exit factory family farmer fashion
feather fifty finger flight flower forest fragile fresh Friday garden gate general ginger glass grand green grocery
guest hammer handle harbour history holiday hospital hotel hour house important insurance invoice island jacket January
journey kitchen ladder language large leather letter library little local lunch machine market master measure medical
member message metal minute model Monday morning mountain museum music natural never north notice number October office
orange order origin paper parking payment pepper person picture plastic platform pocket police power present price
printed private product purple quality quarter queen quick railway rather reason receipt recycle report return river
rocket sailor salad Saturday school science season second service seven silver simple spring square station storage
street student summer sugar system table tailor taxi teacher theatre thirty ticket today tomato total towards traffic
train travel under uniform vanilla village vinegar visitor volume warning water weather weekend welcome window winter
wooden yellow yesterday young
""".split()
NAMES = """
Alvarez Baker Becker Carter Chen Cohen Diaz Evans Fischer Fraser Garcia Gupta Harris Hernandez Ivanova Jansen Keller
Kowalski Larsen Lefevre Martin Meyer Nakamura Novak Okafor Patel Petrova Quinn Rossi Schmidt Taylor Tremblay Vargas
Virtanen Walker Yamada Zeller
""".split()


def found_fonts() -> list[Path]:
    """Sorted by file name, as the folders differ between releases of Debian."""
    fonts = [path for path in FONTS.rglob("*.ttf") if FAMILIES.fullmatch(path.name)]
    if not fonts:
        sys.exit(f"no fonts under {FONTS}; apt-get install {PACKAGES}")
    return sorted(fonts, key=lambda path: path.name)


def digits(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choices(string.digits, k=rng.randint(least, most)))


def token(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.55:
        word = rng.choice(WORDS)
        return rng.choice((word, word, word.capitalize(), word.upper()))
    if kind < 0.67:
        name = rng.choice(NAMES)
        return rng.choice((name, f"{rng.choice(string.ascii_uppercase)}. {name}"))
    if kind < 0.75:
        return f"{digits(rng, 1, 4)}{rng.choice((',', '.'))}{digits(rng, 2, 2)}{rng.choice(('', ' €', ' kg', ' %'))}"
    if kind < 0.82:
        century = rng.choice(("", "19", "20"))
        between = rng.choice("./-")
        return f"{rng.randint(1, 28):02}{between}{rng.randint(1, 12):02}{between}{century}{digits(rng, 2, 2)}"
    if kind < 0.92:
        return digits(rng, 2, 8)
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(2, 3)))
    return f"{letters}{rng.choice(('-', ' ', ''))}{digits(rng, 2, 5)}"


def line_of_text(rng: random.Random) -> str:
    while True:
        text = " ".join(token(rng) for _ in range(rng.randint(1, 3)))
        if sum(character in TELLING for character in text) >= LEAST_TELLING:
            return text


def glyphs(text: str, font: ImageFont.FreeTypeFont, degrees: float) -> Image.Image:
    """The tilted text, white on black, without margins."""
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, fill=255, font=font)
    mask = mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    return mask.crop(mask.getbbox())


def brightness(colour: np.ndarray) -> float:
    return float(colour @ (0.299, 0.587, 0.114))


def colours(noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of the text and of the ground; the text is the darker one three times out of four."""
    dark_text = noise.random() < 0.75
    while True:
        text, ground = noise.uniform(0, 255, (2, 3))
        difference = brightness(ground) - brightness(text)
        if (difference if dark_text else -difference) >= CONTRAST:
            return text, ground


def shaded(colour: np.ndarray, width: int, height: int, noise: np.random.Generator) -> np.ndarray:
    """Plain, shaded from side to side, or blotchy, as [height, width, 3]."""
    strength = noise.uniform(5, 30)
    kind = noise.integers(3)
    if kind == 0:
        shade = np.zeros((height, width))
    elif kind == 1:
        angle = noise.uniform(0, 2 * np.pi)
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        shade = strength * (np.sin(angle) * rows + np.cos(angle) * columns)
    else:
        coarse = Image.fromarray(noise.uniform(-strength, strength, (3, 9)).astype(np.float32))
        shade = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return colour + shade[:, :, None]


def draw(fonts: list[Path], rng: random.Random) -> Image.Image:
    """One upright line."""
    while True:
        text = line_of_text(rng)
        font = ImageFont.truetype(rng.choice(fonts), DRAWN_SIZE, layout_engine=ImageFont.Layout.BASIC)
        mask = glyphs(text, font, rng.uniform(-TILT_DEGREES, TILT_DEGREES))
        height = rng.randint(*HEIGHTS)
        left, top, right, bottom = (rng.randint(*MARGINS) for _ in range(4))
        scale = (height - top - bottom) / mask.height
        text_width = round(scale * mask.width)
        width = left + text_width + right
        if RATIOS[0] <= width / height <= RATIOS[1]:
            break
    alpha = Image.new("L", (width, height))
    alpha.paste(mask.resize((text_width, height - top - bottom), Image.Resampling.LANCZOS), (left, top))

    noise = np.random.default_rng(rng.getrandbits(64))
    text_colour, ground_colour = colours(noise)
    opacity = np.asarray(alpha, np.float64)[:, :, None] / 255
    pixels = opacity * text_colour + (1 - opacity) * shaded(ground_colour, width, height, noise)
    blurred = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    grain = noise.normal(0, rng.uniform(0, 9), (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(blurred) + grain, 0, 255).astype(np.uint8))


def main(folder: Path, count: int, seed: int) -> None:
    fonts = found_fonts()
    for split, lines in (("train", count), ("val", count // 10), ("test", count // 10)):
        for turned in (0, 180):
            target = folder / split / str(turned)
            if target.exists():
                sys.exit(f"{target} exists already; remove it or name another folder")
            target.mkdir(parents=True)
            for number in range(lines):
                image = draw(fonts, random.Random(f"{seed} {split} {turned} {number}"))
                if turned:
                    image = image.transpose(Image.Transpose.ROTATE_180)
                image.save(target / f"{number:05}.png")
        print(f"{folder / split}: 2 x {lines} lines in {len(fonts)} fonts", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    main(args.folder, args.count, args.seed)
