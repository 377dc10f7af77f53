"""Made-up scores and rows of `results.csv`, for the tests of comparisons, tables and pages."""

import re
from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from src.config import PROTOCOLS
from src.evaluation import metrics
from src.evaluation.results import RESULT_COLUMNS


def made_results(**changes):
    """A row for each detector, test set and metric, with values that tell them apart."""
    detectors = {"VGG16_V3": "direct", "Fourier_DenseNet": "fourier", "boosting": "metadata"}
    names = ["auc", "accuracy", "precision", "f1", "precision_real", "recall_real", "f1_real"]
    rows = product(detectors, PROTOCOLS, ("inpainting", "insight"), names)
    rows = pd.DataFrame(rows, columns=["model", "protocol", "test_set", "metric"])
    rows["value"] = 0.1 * rows["model"].map([*detectors].index) + 0.5
    rows["value"] += 0.01 * rows["metric"].map(names.index)
    return made_rows(**rows, approach=rows["model"].map(detectors)).assign(**changes)


DEFAULTS = {"study": "tiny", "approach": "direct", "model": "VGG16_V3", "protocol": "controlled"}
DEFAULTS |= {"train_set": "inpainting", "test_set": "inpainting", "real_source": "wiki", "seed": 0}
DEFAULTS |= {"metric": "auc", "value": 0.8, "num_real": 30, "num_fake": 28}
DEFAULTS |= {"num_groups": 20, "num_seeds": 1}


def made_rows(**columns):
    """Headline rows under `controlled`, but for the columns given; 0.05 around the value."""
    length = max((len(each) for each in columns.values() if np.ndim(each)), default=1)
    lists = {name: list(each) if np.ndim(each) else each for name, each in columns.items()}
    rows = pd.DataFrame(DEFAULTS | lists, index=range(length))
    for name, side in (("ci_low", -1), ("ci_high", 1)):
        rows[name] = lists.get(name, rows["value"] + side * 0.05)
    return rows[list(RESULT_COLUMNS)]


def on_every_set(study, value=0.8, **columns):
    """AUC of one detector on every test set; `columns` as in `made_rows`."""
    where = {"test_set": [*study.test_sets], "real_source": [*study.test_sets.values()]}
    return made_rows(**where | {"value": value} | columns)


def for_every_table(study):
    """Rows of a network that did not learn for every table, and its changes between protocols."""
    names = ["auc", "accuracy", "f1", "precision_real", "recall_real", "f1_real"]
    names += [f"{name}_at_threshold" for name in ("accuracy", "f1", "recall_real")]
    parts = [on_every_set(study, [0.52, 0.8, 0.8, 0.8], metric=name) for name in names]
    parts += [on_every_set(study, seed=1), made_rows(real_source="celeba")]
    parts += [made_rows(metric=["auc@jpeg:50", "auc@grey", "auc@gender:male"])]
    ends = ["", "_chance", "_elsewhere", "_excess"]
    parts += [made_rows(metric=[f"cam_in_region{end}" for end in ends])]
    parts += [made_rows(test_set="strength_1", real_source="trace")]
    parts += [made_rows(metric="fpr_at_threshold", num_fake=0, real_source="celeba")]
    for name in study.test_sets:
        parts += [on_every_set(study, model="Matrix_direct", train_set=name)]
    changes = {"model": "VGG16_V3", "test_set": "inpainting", "difference": -0.1, "ci_low": -0.2}
    changes = pd.DataFrame([changes | {"ci_high": -0.01, "significant": False}])
    return pd.concat([*parts, *(part.assign(protocol="report") for part in parts)]), changes


def flat(text):
    """A page without its line breaks."""
    return " ".join(text.split())


def answers(text):
    """The five points of a page, each on one line."""
    text = flat(text.split("five points\n")[1].split("AUC is the area")[0])
    return re.split(r"(?:^| )\d\. (?=[A-Z`])", text)[1:]


def cells_of(table):
    """A Markdown table as (header, row by its first cells)."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return lines[0], lines[2:]


CARD = {"approach": "direct", "model": "A", "protocol": "controlled", "train_set": "inpainting"}
CARD |= {"seed": 0, "threshold": 0.42, "slope": 0.5, "intercept": 0.2, "fingerprint": "f"}


def scores(shift=1.0, seed=0, num_groups=90):
    """Two photographs and their fakes in a group, three test sets, and test photographs of `celeba`
    without fakes."""
    generator = np.random.default_rng(seed)
    number = np.repeat(np.arange(num_groups), 2)
    split = np.array(["valid", "test", "test"])[number % 3]
    names = [f"{group:03}_{copy}.jpg" for group in range(num_groups) for copy in (0, 1)]
    tasks = [("inpainting", "wiki"), ("insight", "wiki"), ("gan140k", "gan140k")]
    lots = [(*task, label) for task in tasks for label in (0, 1)] + [("inpainting", "celeba", 0)]
    tables = []
    for test_set, source, label in lots:
        folder = f"fake-{test_set}" if label else source
        table = pd.DataFrame({"path": [f"{folder}/{name}" for name in names], "label": label})
        table["generator"] = test_set if label else "real"
        table["split"] = split
        table["score"] = special.expit(shift * (2 * label - 1) + generator.normal(size=len(number)))
        table["group"] = [f"{source}/{group}" for group in number]
        table = table.assign(test_set=test_set, real_source=source)
        own = (test_set, source) == ("inpainting", "wiki")
        tables.append(table if own else table[table["split"] == "test"])
    return pd.concat(tables, ignore_index=True)


def tested(scores, test_set="inpainting", source="wiki"):
    return scores.query("split == 'test' and test_set == @test_set and real_source == @source")


def auc(labels, scores, groups) -> float:
    """The AUC by its definition: each fake against each real of another group, ties are half."""
    labels, scores, groups = map(np.asarray, (labels, scores, groups))
    fake, real = labels == 1, labels == 0
    wins = (np.sign(scores[fake, None] - scores[real]) + 1) / 2
    return wins[groups[fake, None] != groups[real]].mean()


def compute(labels, scores, threshold=0.5, groups=None, code=metrics):
    """All metrics of one detector, each image alone or in its group: name → value."""
    arrays = code.check_arrays(labels, scores)
    index = code.group_index(range(len(labels)) if groups is None else groups, len(labels))
    weighted = code.weighted_metrics(*arrays, index, threshold, code.METRICS)
    return dict(zip(code.METRICS, weighted(np.ones((1, index.max() + 1)))[0].tolist()))
