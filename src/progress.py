"""One way to show progress: a bar on standard output that leaves nothing behind when it is done."""

import sys

import tqdm as _tqdm


def progress(iterable=None, description: str = "", total: int | None = None, unit: str = "file", **options):
    """A `tqdm` bar on standard output, so that neither notebooks nor logs hold text that looks like an error.

    Args:
        iterable: What to go through; `None` for a bar that is updated by hand.
        description: In front of the bar.
        total: Number of items, if the iterable does not know.
        unit: Of what is counted.
        **options: Further arguments of `tqdm`.

    Returns:
        A `tqdm.tqdm`.
    """
    options = {"file": sys.stdout, "leave": False, "dynamic_ncols": True, "mininterval": 0.5, "delay": 0.5} | options
    return _tqdm.tqdm(iterable, description, total, unit=unit, **options)
