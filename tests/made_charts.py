"""Made-up data for charts, and one figure of each kind."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from made_results import made_rows

from src.report import charts, data_charts

KEY = ("VGG16_V3", "report")
INTERVAL = {"auc": [0.9, 0.2], "ci_low": [0.8, 0.1], "ci_high": [1.0, 0.3]}
TRAITS = pd.DataFrame({"trait": ["file_size", "width"], **INTERVAL})
POINTS, NAMES = np.random.default_rng(0).normal(size=(30, 3)), ["real", "inpainting", "other"] * 10
MATRIX = pd.DataFrame([[0.9, 0.2], [np.nan, 0.5]], index=["A", "B"], columns=["x", "y"])


def texts(figure):
    """All words on a figure."""
    figure.draw_without_rendering()
    found = [text for text in figure.findobj(plt.Text) if text.get_visible()]
    return [text.get_text() for text in found if text.get_text()]


def words(artists):
    return [text.get_text() for text in artists]


def scored():
    labels = np.repeat([0, 1], [40, 60])
    noise = np.random.default_rng(0).normal(size=100)
    return labels, np.clip(0.3 * labels + 0.35 + 0.2 * noise, 0, 1).round(2)


def history(num_epochs, names=("loss", "auc")):
    epochs = np.arange(1, num_epochs + 1)
    values = {column: 1 / epochs for name in names for column in (name, f"val_{name}")}
    return pd.DataFrame({"epoch": epochs, **values})


def bins():
    """As `comparisons.reliability`: one bin of 3 images and one of 1, in two test sets."""
    table = pd.DataFrame({"share_fake": [0.0, 1.0] * 4, "num_images": [3, 1] * 4})
    table["calibrated"] = [False, False, True, True] * 2
    table["mean_score"] = 0.2 + 0.6 * table["share_fake"] + 0.1 * table["calibrated"]
    table["test_set"] = np.repeat(["inpainting", "insight"], 4)
    return table.assign(real_source="wiki", in_domain=table["test_set"] == "inpainting")


def alarms():
    """As `comparisons.false_alarms`."""
    table = pd.DataFrame({"split": ["valid", "test", "test"], "value": [0.1, 0.2, 0.6]})
    table["real_source"], table["num_real"] = ["wiki", "wiki", "celeba"], [50, 40, 30]
    return table.assign(ci_low=0.05, ci_high=0.7)


def rings():
    """As `explain.ring_occlusion`."""
    table = {"low": [0, 0.25, 0.5], "high": [0.25, 0.5, 0.7], "auc": [0.8, 0.9, 0.9]}
    table |= {"drop": [0.1, 0, 0], "ci_low": [0.05, -0.02, 0], "ci_high": [0.2, 0.02, 0]}
    return pd.DataFrame(table, index=[4, 5, 6])


def auc_rows(values):
    """Rows of `results.csv` of two detectors: condition → AUC of the first."""
    values = {"auc": 0.8} | {f"auc@{condition}": value for condition, value in values.items()}
    rows = made_rows(metric=[*values], value=[*values.values()], model="A")
    return pd.concat([rows, rows.assign(model="B", value=0.5, num_real=29)])


def both_protocols():
    """Rows of AUC: a baseline, a network that learned under `report`, one under `controlled`."""
    names = {"model": list("XVVV"), "approach": ["pixels", *["direct"] * 3]}
    names["protocol"] = ["report", "report", "controlled", "controlled"]
    names["test_set"] = ["inpainting"] * 3 + ["insight"]
    return made_rows(**names, value=[0.9, 0.8, 0.5, 0.7])


def made_figures():
    """Each figure, and some of its words where no test of its own looks at them."""
    random = np.random.default_rng(0)
    picture = np.zeros((8, 8, 3), np.uint8)
    probe = pd.DataFrame({"k": [2, 5], "null_mean": 0.5, "null_high": 0.6, **INTERVAL})
    leaking = pd.DataFrame({"kind": "person", "split": ["ours", "theirs"], "test_in_train": [1, 0]})
    files = pd.DataFrame({"width": [9, 8], "height": [5, 8], "luminance_table": [4.0, np.nan]})
    lying = {"lying": (files, np.array([0, 1]), TRAITS.rename(columns={"trait": "generator"}))}
    errors = pd.DataFrame({"task": list("abab"), "label": "real", "error": [0, 1, 2, 3]})
    means = {("report", label): random.random((8, 8)) for label in ("real", "fake")}
    profiles = {"insight": ("wiki", random.random((5, 9)), random.random((4, 9)))}
    heats, box = {"Grad-CAM": random.random((1, 8, 8))}, np.array([[0.1, 0.1, 0.5, 0.5]])
    title = {"title": "T"}
    panels = {"report": TRAITS, ("controlled", "again"): TRAITS[::-1]}
    maps = {"report": TRAITS.set_index("trait")[["auc", "ci_low"]]}
    curves, reported = {KEY: history(2)}, {KEY: history(3)}
    strengths = made_rows(model=["A", "B"] * 3, value=[0.5, 0.5, 0.8, 0.5, 0.9, 0.7])
    strengths = strengths.assign(strength=[0, 0, 1, 1, 2, 2])
    leaks = made_rows(model=["Matrix_by_group", "Matrix_by_picture"] * 3, seed=[0, 0, 1, 1, -1, -1])
    variety = made_rows(value=[0.5, 0.6, 0.9]).assign(number=[1, 2, 4])
    return [
        (data_charts.image_grid([picture], num_columns=1, **title), "T"),
        (data_charts.reconstructions(picture[None], picture[None] + 0.5, ["a"], **title),),
        (data_charts.heat_overlays(picture[None], heats, box, **title),),
        (data_charts.mean_spectra(means, **title), "report: fake − real"),
        (data_charts.radial_profiles(profiles, **title), "real: wiki (5)", "insight (4)"),
        (data_charts.error_histograms(errors, **title), "a", "b", "real (2)", "fake (0)"),
        (data_charts.shortcut(lying, **title), "real (1)", "0.90"),
        (data_charts.scatter_2d({"one": POINTS[:, :2]}, NAMES), "one", "other (10)"),
        (data_charts.scatter_pairs(POINTS, NAMES, shares=[0.5, 0.3, 0.1]), "real (10)"),
        (data_charts.scree(np.array([0.5, 0.3, 0.1])), "explained by it alone"),
        (data_charts.leak_bars(leaking), " 100 %", " 0 %", "ours", "theirs"),
        (data_charts.trait_bars(panels, **title), "file size", "controlled, again"),
        (data_charts.trait_maps(maps, **title), "file size", "0.90", "0.20"),
        (data_charts.probe_curves({"report": probe}, **title), "5", "shuffled labels (90 %)"),
        (charts.training_curves(curves), "VGG16_V3\nreport", "Loss (log axis)", "epoch"),
        (charts.training_curves(curves, reference=reported), "validation, in the report"),
        (charts.roc_curves({KEY: {"insight": scored()}}), "VGG16_V3, report\n"),
        (
            charts.confusion_matrices({KEY: scored()}, {KEY: 0.4}, num_columns=1),
            "VGG16_V3\nreport\nthreshold 0.40",
        ),
        (charts.auc_dumbbells(both_protocols(), **title), "did not learn in-domain"),
        (charts.heat_map(MATRIX, MATRIX.map(str)),),
        (charts.ring_curve(rings(), **title), "1/8", "1/4", "corners", "drop in AUC (from 0.90)"),
        (charts.reliability_diagrams({"A": bins()}, {"insight": "wiki"}, **title), "A"),
        (charts.false_alarm_bars({"A": alarms(), "B": alarms()}, **title), "on validation", "B"),
        (charts.subgroup_dots(auc_rows({"gender:male": 0.6}), **title), "inpainting\nagainst wiki"),
        (charts.robustness_curves(auc_rows({"jpeg:90": 0.85}), **title),),
        (charts.leak_dumbbells(leaks, **title), "split by group", "inpainting"),
        (charts.strength_curves(strengths, **title), "A", "B", "strength of the trace"),
        (charts.variety_curve(variety, **title), "2", "decoders in training"),
    ]
