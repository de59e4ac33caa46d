#!/usr/bin/env python3
"""Draws the tables that `cohort run` prints as an SVG: terminal_picture.py OUTPUT.svg COMMAND...

Runs COMMAND and draws its standard output in a monospaced font. Colours follow the reader's light or dark scheme.
"""
import subprocess
import sys
from html import escape

LINE, CHARACTER, MARGIN = 18, 8.0, 16
STYLE = """
  .window { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328 } .prompt { fill: #656d76 } .chosen { fill: #1a7f37 }
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }
  @media (prefers-color-scheme: dark) {
    .window { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .prompt { fill: #8d96a0 } .chosen { fill: #3fb950 }
  }"""


def kind(line):
    """The class of a line: the command, the chosen student, or a plain line."""
    if line.startswith("$ "):
        return ' class="prompt"'
    return ' class="chosen"' if line.startswith("  > ") else ""


def picture(lines):
    """An SVG of the lines, as wide as the longest and at least 80 characters."""
    columns = max([80, *map(len, lines)])
    width, height = columns * CHARACTER + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}">'
    yield f"<style>{STYLE}\n</style>"
    yield f'<rect class="window" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1}" rx="8"/>'
    for number, line in enumerate(lines):
        if line:
            # The length is fixed so that columns stay aligned in any font.
            y, length = MARGIN + LINE * number + 13, len(line) * CHARACTER
            yield (f'<text x="{MARGIN}" y="{y}"{kind(line)} xml:space="preserve" textLength="{length:g}" '
                   f'lengthAdjust="spacingAndGlyphs">{escape(line)}</text>')
    yield "</svg>"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    target, command = sys.argv[1], sys.argv[2:]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    shown = " ".join([command[0].rsplit("/", 1)[-1], *command[1:]])
    lines = [f"$ {shown}", *told.rstrip().splitlines()]
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(picture(lines)) + "\n")


main()
