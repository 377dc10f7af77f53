"""Made-up rows of `results.csv` for the tests of tables and pages."""

import numpy as np
import pandas as pd

from src.evaluation import RESULT_COLUMNS


def made_results(seeds=(0,), **changes):
    """A row for each detector, test set and metric, with values that tell them apart."""
    detectors = [("direct", "VGG16_V3"), ("fourier", "Fourier_DenseNet"), ("metadata", "boosting")]
    names = ["auc", "accuracy", "precision", "f1", "precision_real", "recall_real", "f1_real"]
    rows = [
        ("tiny", approach, model, protocol, "inpainting", test_set, "wiki", seed, name, value, value - 0.05, value + 0.05, 9, 8)
        for place, (approach, model) in enumerate(detectors)
        for protocol in ("report", "controlled")
        for test_set in ("inpainting", "insight")
        for seed in seeds
        for name, value in zip(names, 0.5 + 0.01 * np.arange(7) + 0.1 * place + 0.02 * seed)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).assign(**changes)


def made_rows(**columns):
    """Headline rows under `controlled`, but for the columns given."""
    common = dict(study="tiny", approach="direct", model="VGG16_V3", protocol="controlled", train_set="inpainting")
    common |= dict(test_set="inpainting", real_source="wiki", seed=0, metric="auc", value=0.8, num_real=30, num_fake=28)
    frame = pd.DataFrame(
        common | columns, index=range(max(len(each) for each in columns.values() if not isinstance(each, str)))
    )
    frame = frame.assign(ci_low=frame["value"] - 0.05, ci_high=frame["value"] + 0.05)
    return frame.assign(**{name: columns[name] for name in ("ci_low", "ci_high") if name in columns})


def cells_of(table):
    """A Markdown table as (header, row by its first cells)."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return lines[0], lines[2:]
