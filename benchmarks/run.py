"""All benchmarks, or some, one after the other, and one report of them.

    python benchmarks/run.py [--quick] [--only log,pointwise] [--without versions] [--into report]

The folder of the report gets `report.md`: the machine, versions and threads, and for each script
its tables, its time and how it ended; the figures that scripts draw; and the output of each as it
was printed. A script that fails, or takes longer than the limit, is named and does not stop the
others. The status is the number of those.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import _timing  # noqa: F401, before numpy: pins the threads
from _machine import described, versions

FOLDER = Path(__file__).parent
# Scripts that draw, and those that need two checkouts.
DRAWING = ("growth",)
APART = ("versions",)


@dataclass
class Outcome:
    """How a script ended, in what time, and what it printed."""

    name: str
    status: str
    seconds: float
    output: str

    @property
    def good(self) -> bool:
        return self.status == "done"


def scripts(only: str, without: str) -> list[str]:
    """Names of the scripts asked for."""
    names = [path.stem.removeprefix("bench_") for path in sorted(FOLDER.glob("bench_*.py"))]
    chosen = [name for name in only.split(",") if name] or [n for n in names if n not in APART]
    left_out = {name for name in without.split(",") if name}
    unknown = (set(chosen) | left_out) - set(names)
    if unknown:
        raise SystemExit(f"No such benchmarks: {', '.join(sorted(unknown))}. There are {names}.")
    return [name for name in chosen if name not in left_out]


def run(name: str, into: Path, quick: bool, limit: float) -> Outcome:
    """Run one script in a process of its own."""
    command = [sys.executable, str(FOLDER / f"bench_{name}.py")]
    if quick:
        command.append("--quick")
    if name in DRAWING:
        command += ["--figure", str(into / f"{name}.png")]
    start = time.perf_counter()
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, env=os.environ
        )
        status = "done" if ended.returncode == 0 else f"failed with status {ended.returncode}"
        output = ended.stdout + (f"\n{ended.stderr}" if ended.returncode else "")
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        output = printed.decode() if isinstance(printed, bytes) else printed
        status = f"stopped after {limit:,.0f} s"
    return Outcome(name, status, time.perf_counter() - start, output.strip())


def report(outcomes: list[Outcome], quick: bool, load: dict[str, str]) -> str:
    """The report as Markdown."""
    lines = ["# Benchmarks", "", f"`python benchmarks/run.py{' --quick' if quick else ''}`", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in {**load, **versions()}.items()]
    lines += ["", "| script | time [s] | |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.seconds:,.0f} | {one.status} |" for one in outcomes]
    for one in outcomes:
        lines += ["", f"## {one.name}", "", one.output]
        if one.name in DRAWING and one.good:
            lines += ["", f"![{one.name}]({one.name}.png)"]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller samples, noisier numbers")
    parser.add_argument("--only", default="", help="names of scripts, by commas")
    parser.add_argument("--without", default="", help="names of scripts to leave out, by commas")
    parser.add_argument("--into", type=Path, default=Path("report"), help="folder of the report")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for one script")
    options = parser.parse_args(arguments)
    names, load = scripts(options.only, options.without), described()
    options.into.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for name in names:
        print(f"{name} ...", end=" ", flush=True)
        outcomes.append(run(name, options.into, options.quick, options.limit))
        print(f"{outcomes[-1].status}, {outcomes[-1].seconds:,.0f} s", flush=True)
        # Written anew after each: what is done stays.
        text = report(outcomes, options.quick, load)
        (options.into / "report.md").write_text(text, encoding="utf-8")
    return sum(not one.good for one in outcomes)


if __name__ == "__main__":
    sys.exit(main())
