"""What a study fetches, and from where: the datasets' own addresses, or archives drawn on this machine."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import simulate
from .config import Study
from .download import MIRROR, SOURCES, RemoteFile


def sources(study: Study) -> tuple[RemoteFile, ...]:
    """The archives of a study. Those of a simulated study are drawn first, unless they have been.

    Returns:
        One `RemoteFile` an archive; none for a study that reads a manifest.
    """
    if study.from_manifest:
        return ()
    if not study.simulated:
        return SOURCES
    folder = _folder(study)
    archives = simulate.make_archives(folder, study.simulation, square_size=study.square_size, seed=study.seed)
    facts = json.loads((folder / "archives.json").read_text())["files"]
    return tuple(
        RemoteFile(
            name=name,
            url=f"http://simulated.invalid/{path.name}",  # answered by `served`
            num_bytes=facts[name]["bytes"],
            digest=f"sha256:{facts[name]['sha256']}",
            licence="simulated data, drawn by this project",
            page="src/simulate.py",
        )
        for name, path in archives.items()
    )


@contextmanager
def served(study: Study) -> Iterator[None]:
    """While it lasts, a simulated study's archives are served over HTTP on this machine, as a mirror."""
    if not study.simulated:
        yield
        return
    before = os.environ.get(MIRROR)
    with simulate.serve(_folder(study)) as address:
        os.environ[MIRROR] = address
        try:
            yield
        finally:
            os.environ.pop(MIRROR)
            if before is not None:
                os.environ[MIRROR] = before


def _folder(study: Study) -> Path:
    return study.data / "mirror"
