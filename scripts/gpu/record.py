"""Results of the check as JSON and Markdown, written after every step, so that an interruption loses nothing."""
import json
import os
import time
from pathlib import Path

from machine import Unusable

SCHEMA = 1


class Record:
    """Parts by number, each with its steps by name. Parts of earlier calls on the same machine are kept."""

    def __init__(self, out: Path, device: str, machine: dict):
        self.out = out
        self.path = out / "gpu-check.json"
        self.data = {"schema": SCHEMA, "device": device, "machine": machine, "parts": {}}
        if self.path.exists():
            try:
                before = json.loads(self.path.read_text())
            except ValueError as error:
                raise Unusable(f"{self.path} is damaged ({error}): take it away") from error
            if all(before.get(key) == self.data[key] for key in ("schema", "device", "machine")):
                self.data["parts"] = before["parts"]

    def part(self, number: int, title: str, steps: list[str]) -> dict:
        """Begins a part: one with steps left continues and repeats failed steps; a complete one starts again."""
        before = self.data["parts"].get(str(number), {"steps": {}})["steps"]
        kept = {name: step for name, step in before.items() if name in steps and step["verdict"] != "fail"}
        left = any(name not in before for name in steps)
        self.data["parts"][str(number)] = {"title": title, "planned": steps, "steps": kept if left else {}}
        return self.data["parts"][str(number)]["steps"]

    def step(self, number: int, name: str, seconds: float, problems: list[str], rows: list[dict], skipped: str | None) -> None:
        verdict = "fail" if problems else "skipped" if skipped else "pass"
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self.data["parts"][str(number)]["steps"][name] = {
            "verdict": verdict, "seconds": round(seconds, 1), "when": when, "problems": problems, "skipped": skipped,
            "rows": rows}
        self.write()

    def verdict(self, number: int) -> str | None:
        """pass, fail, skipped (nothing could run), unfinished; None if it never ran."""
        part = self.data["parts"].get(str(number))
        if part is None:
            return None
        verdicts = [step["verdict"] for step in part["steps"].values()]
        if "fail" in verdicts:
            return "fail"
        if len(verdicts) < len(part["planned"]):
            return "unfinished"
        return "pass" if "pass" in verdicts else "skipped"

    def write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        for path, text in ((self.path, json.dumps(self.data, indent=1)), (self.out / "gpu-check.md", self.markdown())):
            new = path.with_suffix(".new")
            new.write_text(text)
            os.replace(new, path)

    def markdown(self) -> str:
        lines = ["# Check on " + self.data["device"], ""]
        lines += [f"- {name}: {value}" for name, value in self.data["machine"].items() if value]
        lines += ["", "| part | verdict | seconds | steps not run |", "| --- | --- | ---: | --- |"]
        parts = sorted(self.data["parts"].items(), key=lambda item: int(item[0]))
        for number, part in parts:
            seconds = sum(step["seconds"] for step in part["steps"].values())
            skipped = [f"{name} ({step['skipped']})" for name, step in part["steps"].items() if step["skipped"]]
            left = [name for name in part["planned"] if name not in part["steps"]] + skipped
            lines.append(f"| {number} {part['title']} | {self.verdict(int(number))} | {seconds:.0f} | {', '.join(left)} |")
        for number, part in parts:
            lines += ["", f"## {number} {part['title']}"]
            problems = [f"- **{name} failed**: {problem}" for name, step in part["steps"].items() for problem in step["problems"]]
            lines += [""] * bool(problems) + problems
            rows = [row for step in part["steps"].values() for row in step["rows"]]
            lines += table(rows)
        return "\n".join(lines) + "\n"


def table(rows: list[dict]) -> list[str]:
    """One table for each set of columns."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            rule = ["---:" if isinstance(value, (int, float)) or value is None else "---" for value in row.values()]
            lines += ["", f"| {' | '.join(columns)} |", f"| {' | '.join(rule)} |"]
        lines.append(f"| {' | '.join(shown(row[column]) for column in columns)} |")
    return lines


def shown(value) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
