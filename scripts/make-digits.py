#!/usr/bin/env python3
"""Makes examples/digits from the CSV of the UCI optical digits (the copy in the scikit-learn wheel).

usage: make-digits.py digits.csv.gz examples/digits

Values 0..16 become bytes 0..255. Every class is shuffled with a fixed seed and cut 80:20 into a
training and a test part; both parts are then shuffled.
"""
import csv
import gzip
import random
import struct
import sys
from pathlib import Path


def write(folder: Path, prefix: str, rows: list[list[int]]) -> None:
    images = bytes(round(value * 255 / 16) for row in rows for value in row[:64])
    labels = bytes(row[64] for row in rows)
    files = {
        f"{prefix}-images-idx3-ubyte.gz": struct.pack(">4B3I", 0, 0, 8, 3, len(rows), 8, 8) + images,
        f"{prefix}-labels-idx1-ubyte.gz": struct.pack(">4BI", 0, 0, 8, 1, len(rows)) + labels,
    }
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content, mtime=0))


def main(source: str, target: str) -> None:
    with gzip.open(source, "rt") as lines:
        rows = [[int(float(value)) for value in row] for row in csv.reader(lines)]
    shuffle = random.Random(1998).shuffle
    train: list[list[int]] = []
    test: list[list[int]] = []
    for digit in range(10):
        of_class = [row for row in rows if row[64] == digit]
        shuffle(of_class)
        cut = round(len(of_class) / 5)
        test += of_class[:cut]
        train += of_class[cut:]
    shuffle(train)
    shuffle(test)
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "train", train)
    write(folder, "t10k", test)
    print(f"{len(train)} training and {len(test)} test images in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
