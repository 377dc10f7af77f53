"""What takes how long, beside the plain way: `python -m benchmarks.NAME`, from the repository."""

import time


def timed(function, *arguments):
    """What the function returns, the seconds it took, and those of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    value = function(*arguments)
    return value, time.perf_counter() - wall, time.process_time() - processor
