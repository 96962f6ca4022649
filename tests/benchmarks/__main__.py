"""Run every comparison, print it, and write results.json and results.md beside this file.

python -m tests.benchmarks                              all sizes, about a quarter of an hour
python -m tests.benchmarks "T=1,000" "10,000 x 100"     these sizes only
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numba
import torch

from tests.benchmarks import contenders, yardstick
from tests.benchmarks.timing import Contender, Timing, ratio, take_turns

HERE = Path(__file__).parent
TARGETS = {
    ("hmmlearn scaling", "e_step"): {2: 5.0, 4: 5.0, 8: 5.0, 32: 3.0},
    ("hmmlearn scaling", "em"): {2: 5.0, 4: 5.0, 8: 5.0, 32: 3.0},
    ("hmmlearn log", "e_step"): {2: 10.0, 4: 10.0, 8: 10.0},
    ("hmmlearn log", "em"): {2: 10.0, 4: 10.0, 8: 10.0},
    ("dynamax x64", "e_step"): {2: 3.0, 4: 3.0, 8: 3.0, 32: 3.0},
    ("hmmlearn scaling", "viterbi"): {2: 5.0, 4: 5.0, 8: 5.0, 32: 5.0},
}
SHORT = 1000
"""At so few steps in all the target is only to be no slower than hmmlearn."""


def main() -> None:
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    sizes = {"T=1,000": [1000], "T=100,000": [100_000], "10,000 x 100": [100] * 10_000, "T=1,000,000": [1_000_000]}
    for label in sys.argv[1:] or sizes:
        lengths = sizes[label]
        for states in (2, 4, 8, 32):
            rows += _against_peers(label, states, lengths)
    rows += _pair("gradient", "T=100,000", 100_000, 10.0)
    rows += _pair("svi_step", "T=1,000", 1000, 300.0)
    scale = [_scale(steps) for steps in (10**6, 10**7, 10**8)]
    result = {"machine": _machine(), "rows": rows, "scale": scale, "c_forward_ns": yardstick.forward_nanoseconds(2)}
    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "results.md").write_text(_table(result))
    print((HERE / "results.md").read_text())


def _against_peers(label: str, states: int, lengths: list[int]) -> list[dict[str, Any]]:
    """E-step, EM iteration and Viterbi of one problem in every package that is fast enough to wait for."""
    problem = contenders.gaussian_problem(states, lengths)
    packages = [Contender("probseq", contenders.probseq_calls, problem)]
    packages.append(Contender("hmmlearn scaling", contenders.hmmlearn_calls, problem, "scaling"))
    if states * states * sum(lengths) <= 2 * 10**7:
        packages.append(Contender("hmmlearn log", contenders.hmmlearn_calls, problem, "log"))
    packages.append(Contender("dynamax x64", contenders.dynamax_calls, problem))
    rows = []
    for work in ("e_step", "em", "viterbi"):
        rows += _rows(work, label, states, sum(lengths), take_turns(packages, work, budget=4.0), TARGETS)
    for package in packages:
        package.close()
    return rows


def _rows(
    work: str, label: str, states: int, steps: int, timings: dict[str, Timing], targets: dict[Any, dict[int, float]]
) -> list[dict[str, Any]]:
    ours = timings["probseq"]
    rows = []
    for name, timing in timings.items():
        if name == "probseq":
            continue
        target = targets.get((name, work), {}).get(states)
        if target is not None and steps <= SHORT and work != "svi_step":
            target = 1.0 if name.startswith("hmmlearn") else None
        faster = ratio(timing, ours)
        row = {"work": work, "size": label, "states": states, "peer": name, "ours_ns": 1e9 * ours.median / steps}
        row |= {"peer_ns": 1e9 * timing.median / steps, "ratio": faster, "target": target, "turns": len(ours.seconds)}
        rows.append(row)
        verdict = "" if target is None else ("  met" if faster >= target else f"  MISSED {target:g}")
        print(f"{work:8} {label:13} K={states:<3} {name:18} {faster:9.1f}x{verdict}", flush=True)
    return rows


def _pair(work: str, label: str, steps: int, target: float) -> list[dict[str, Any]]:
    """Gradient or SVI step of one problem, ours against Pyro's own."""
    problem = contenders.gaussian_problem(4, [steps])
    ours, theirs = getattr(contenders, f"{work}_calls"), getattr(contenders, f"pyro_{work}_calls")
    peer = contenders.PYRO[work]
    packages = [Contender("probseq", ours, problem), Contender(peer, theirs, problem)]
    timings = take_turns(packages, work, budget=20.0)
    for package in packages:
        package.close()
    return _rows(work, label, 4, steps, timings, {(peer, work): {4: target}})


def _scale(steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.scale", str(steps)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"two-state DNA, {steps:,} bases: {found['ns_per_step']:.1f} ns a base", flush=True)
    return found


def _machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numba": numba.__version__}
    for package in ("hmmlearn", "dynamax", "jax"):
        from importlib.metadata import version

        versions[package] = version(package)
    return {"processor": processor, "threads": numba.get_num_threads(), **versions}


def _table(result: dict[str, Any]) -> str:
    """The results as markdown: a row for each work and size, ratios to the peers."""
    machine = result["machine"]
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        f"Measured by `make bench` ({about}). Times are medians of interleaved turns; a ratio says how many times",
        "faster probseq is in the same run, bold where the target is missed.",
        "",
        "| work | size | K | probseq ns/step | peer | peer ns/step | ratio | target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        target = row["target"]
        shown = f"{row['ratio']:.1f}x"
        shown = f"**{shown}**" if target is not None and row["ratio"] < target else shown
        goal = "" if target is None else f"{target:g}x"
        lines.append(
            f"| {row['work']} | {row['size']} | {row['states']} | {row['ours_ns']:.1f} | {row['peer']} | "
            f"{row['peer_ns']:.1f} | {shown} | {goal} |"
        )
    lines += ["", "| two-state DNA, one EM iteration | ns/base | memory beyond imports, MB | of it the index, MB |"]
    lines += ["|---|---|---|---|"]
    for row in result["scale"]:
        memory, index = row["peak_bytes_beyond_imports"] / 1e6, row["index_bytes"] / 1e6
        lines.append(f"| {row['steps']:,.0f} bases | {row['ns_per_step']:.1f} | {memory:.0f} | {index:.0f} |")
    if result["c_forward_ns"] is not None:
        lines += ["", f"A C forward pass alone, K = 2, same machine: {result['c_forward_ns']:.1f} ns/base."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
