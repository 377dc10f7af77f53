"""Runs every benchmark that has a goal, each in a process of its own; then the README's table.

python -m benchmarks [--quick | --table]: about a quarter of an hour on two idle cores.
"""

import subprocess
import sys
import time

import pandas as pd

from benchmarks import RESULTS, put
from src.config import ROOT

NAMES = "spectrum pixel_store pca training bootstrap scoring growth costs allocator".split()


def number(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: pd.DataFrame) -> str:
    """Rows of `results.csv` as Markdown."""
    lines = ["| work | compared with | its min / median / max | our speed divided by its | goal |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for row in rows.itertuples():
        rate = " / ".join(map(number, dict.fromkeys((row.min, row.median, row.max))))
        ratio = " / ".join(map(number, (row.ratio_min, row.ratio_median, row.ratio_max)))
        if row.candidate.startswith("ours") or pd.isna(row.ratio_median):
            ratio = ""
        goal, unit = (text if isinstance(text, str) else "" for text in (row.goal, row.unit))
        goal += ", **not reached**" if str(row.reached) == "False" else ""
        lines.append(f"| {row.claim} | {row.candidate} | {rate} {unit} | {ratio} | {goal} |")
    machines = rows[["machine", "cores"]].drop_duplicates().itertuples(index=False)
    lines += ["", "Measured on " + "; ".join(f"{name}, {cores} cores" for name, cores in machines)]
    return "\n".join(lines) + f", load {rows['load'].min()} to {rows['load'].max()}."


def main() -> int:
    start, failed = time.time(), []
    for name in NAMES if "--table" not in sys.argv else ():
        command, begun = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], time.time()
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"benchmarks.{name}: {time.time() - begun:.0f} s\n", flush=True)
    print(f"All: {(time.time() - start) / 60:.1f} min. Failed: {', '.join(failed) or 'none'}.")
    if "--quick" not in sys.argv:
        rows = pd.read_csv(RESULTS).drop_duplicates(["claim", "candidate"], keep="last")
        parts = rows["claim"].str.startswith("the whole demo")
        rows = pd.concat([rows[~parts], rows[parts]])
        put(ROOT / "docs" / "scale.md", "benchmarks", table(rows))
        put(ROOT / "README.md", "benchmarks", table(rows[rows["goal"].notna()]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
