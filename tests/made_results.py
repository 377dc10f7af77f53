"""Made-up scores and rows of `results.csv`, for the tests of comparisons, tables and pages."""

import numpy as np
import pandas as pd
from scipy import special

from src.evaluation.results import RESULT_COLUMNS


def made_results(seeds=(0,), **changes):
    """A row for each detector, test set and metric, with values that tell them apart."""
    detectors = [("direct", "VGG16_V3"), ("fourier", "Fourier_DenseNet"), ("metadata", "boosting")]
    names = ["auc", "accuracy", "precision", "f1", "precision_real", "recall_real", "f1_real"]
    rows = [
        (
            "tiny",
            approach,
            model,
            protocol,
            "inpainting",
            test_set,
            "wiki",
            seed,
            name,
            value,
            value - 0.05,
            value + 0.05,
            9,
            8,
        )
        for place, (approach, model) in enumerate(detectors)
        for protocol in ("report", "controlled")
        for test_set in ("inpainting", "insight")
        for seed in seeds
        for name, value in zip(names, 0.5 + 0.01 * np.arange(7) + 0.1 * place + 0.02 * seed)
    ]
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).assign(**changes)


def made_rows(**columns):
    """Headline rows under `controlled`, but for the columns given."""
    common = dict(
        study="tiny",
        approach="direct",
        model="VGG16_V3",
        protocol="controlled",
        train_set="inpainting",
    )
    common |= dict(
        test_set="inpainting",
        real_source="wiki",
        seed=0,
        metric="auc",
        value=0.8,
        num_real=30,
        num_fake=28,
    )
    frame = pd.DataFrame(
        common | columns,
        index=range(max(len(each) for each in columns.values() if not isinstance(each, str))),
    )
    frame = frame.assign(ci_low=frame["value"] - 0.05, ci_high=frame["value"] + 0.05)
    return frame.assign(
        **{name: columns[name] for name in ("ci_low", "ci_high") if name in columns}
    )


def cells_of(table):
    """A Markdown table as (header, row by its first cells)."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return lines[0], lines[2:]


CARD = {
    "train_set": "inpainting",
    "seed": 0,
    "threshold": 0.42,
    "temperature": 2.0,
    "fingerprint": "f",
}
CARD |= {"approach": "direct", "model": "A", "protocol": "controlled"}


def scores(shift=1.0, seed=0, num_groups=90):
    """Two photographs and their fakes in a group, three test sets, and test photographs of `celeba`
    without fakes."""
    generator = np.random.default_rng(seed)
    tables = []
    lots = [
        ("inpainting", "wiki"),
        ("insight", "wiki"),
        ("gan140k", "gan140k"),
        ("inpainting", "celeba"),
    ]
    for test_set, source in lots:
        for label in (0, 1) if source != "celeba" else (0,):
            number = np.repeat(np.arange(num_groups), 2)
            split = np.array(["valid", "test", "test"])[number % 3]
            name = [
                f"{group:03}_{copy}.jpg" for group, copy in zip(number, np.tile([0, 1], num_groups))
            ]
            table = pd.DataFrame(
                {"path": [f"{'fake-' + test_set if label else source}/{value}" for value in name]}
            )
            score = special.expit(shift * (2 * label - 1) + generator.normal(size=len(number)))
            table = table.assign(
                label=label, generator=test_set if label else "real", split=split, score=score
            )
            table["group"] = [f"{source}/{group}" for group in number]
            table = table.assign(test_set=test_set, real_source=source)
            tables.append(
                table
                if test_set == "inpainting" and source == "wiki"
                else table[table["split"] == "test"]
            )
    return pd.concat(tables, ignore_index=True)


def tested(scores, test_set="inpainting", source="wiki"):
    return scores.query("split == 'test' and test_set == @test_set and real_source == @source")
