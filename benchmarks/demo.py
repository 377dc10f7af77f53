"""The whole demo, cold and once more, in a folder of its own. Too long for `make bench`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import is_quick, record, timed
from src.config import ROOT

CHANGED = "ours, all notebooks once more"  # as after a change of the code: networks are kept


def main() -> None:
    study = "tiny" if is_quick(__doc__) else "demo"
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"STUDY": study, "TRUE_OR_FAKE_HOME": home}
        command = [sys.executable, "-m", "tools.run_notebooks"]
        options = {"cwd": ROOT, "env": environment, "check": True}
        for name, goal in (("ours, cold", 8), ("ours, once more", 1), (CHANGED, None)):
            if name == CHANGED:
                next(Path(home).rglob("finished.json")).unlink()
            seconds = timed(lambda: subprocess.run(command, **options))[1]
            record(f"the whole {study}", name, "minutes", [seconds / 60], at_most=goal)


if __name__ == "__main__":
    main()
