"""What the page claims beside its five points and its tables of numbers, from made-up rows."""

import re

import numpy as np
import pandas as pd
import pytest
from made_results import cells_of, flat, for_every_table, made_results, made_rows, on_every_set

from src import config
from src.evaluation.results import ALL_SEEDS
from src.report import page, tables
from src.report.numbers import number_tables


def _table(text, heading):
    """The first table after some words, as in `cells_of`."""
    return cells_of(text.split(heading)[1].split("\n| ", 1)[1].split("\n\n")[0])


def test_intervals_are_counted_by_protocol_and_place_without_what_did_not_learn(study):
    """Home, then three others: one above chance, one around it, one below it."""
    rows = [on_every_set(study, [0.9, 0.8, 0.5, 0.2], model=name) for name in ("A", "B")]
    rows += [on_every_set(study, [0.52, 0.9, 0.9, 0.9], model="failed")]
    rows += [on_every_set(study, [0.9, 0.9, 0.5, 0.5], model="A", protocol="report")]
    rows += [on_every_set(study, 0.9, model="Metadata", approach="metadata")]  # sees no picture
    text = page.summary(study, pd.concat(rows))
    _, counts = _table(text, "By where they lie:")
    assert counts == [
        ["controlled", "other generators", "2", "2", "2"],
        ["controlled", "what they were trained on", "2", "1", "0"],
        ["report", "other generators", "1", "2", "0"],
        ["report", "what they were trained on", "1", "0", "0"],
    ]
    said = "8 of the 13 intervals of detectors that see pictures exclude 0.5; of as many"
    assert f"{said} detectors that guess about 1 would." in flat(text)


def test_detectors_above_the_header_are_those_with_their_interval_above_its_auc(study):
    names = {"above": 0.9, "no more": 0.84, "below": 0.7}
    rows = [on_every_set(study, value, model=name) for name, value in names.items()]
    rows += [on_every_set(study, model="Metadata", approach="metadata")]
    text = page.summary(study, pd.concat(rows).assign(protocol="report"))
    assert "1 of 3 detectors that see pictures have an interval above its AUC" in flat(text)


def test_the_largest_numbers_of_pictures_and_all_seeds_are_told(study):
    sizes = [dict(num_fake=9, num_real=8, num_groups=7), dict(num_fake=6, num_real=5, num_groups=4)]
    rows = [made_rows(model=name, **size) for name, size in zip("BA", sizes)]
    rows += [made_rows(model="B", seed=seed) for seed in (2, 1)]
    rows += [made_rows(model="Matrix_direct", seed=3)]
    text = page.summary(study, pd.concat(rows))
    assert _table(text, "tested on these:")[1] == [["inpainting", "9", "8", "wiki", "7"]]
    assert "Others: `B` 1, 2; the headline rows" in flat(text)
    assert "No other was run" in page.summary(study, rows[0])


def test_the_original_tables_stand_beside_ours_with_their_contradictions(study):
    text = page.summary(study, made_results())
    row = next(row for row in _table(text, "as the report computed them")[1] if "/ 51.0" in row[2])
    assert row[:4] == ["VGG16_V3 †", "inpainting", "95.8 / 51.0", "96.1 / 54.0"]
    assert row[-1] == "⚠ F1 94.73: precision and recall give 95.84"
    assert " 8 of the report's 18 rows contradict their own precision and recall." in flat(text)


def test_strengths_and_what_the_control_takes_away_are_those_of_the_rows(study):
    rows, changes = for_every_table(study)
    found = number_tables(study, rows, changes)
    header, cells = cells_of(found["By strength of the trace"])
    assert header == ["detector", "1.0"] and cells == [["VGG16_V3 †", "0.80 [0.75, 0.85]"]]
    for significant, star in ((False, ""), (True, " \\*")):
        found = number_tables(study, rows, changes.assign(significant=significant))
        _, cells = cells_of(found["What the control takes away"])
        assert cells == [["VGG16_V3 †", f"-0.10 \\[-0.20, -0.01\\]{star}"]]


def test_unchanged_beside_degraded_pictures_is_the_mean_over_trainings(study):
    mean = made_rows(value=0.7, seed=ALL_SEEDS, num_seeds=3)
    rows = pd.concat([made_rows(value=0.9), mean, made_rows(metric="auc@jpeg:50", value=0.6)])
    robustness = number_tables(study, rows)["Robustness"].split("\n\n")[1]
    assert cells_of(robustness)[1] == [["controlled", "VGG16_V3", "0.70 / –", "0.60 / –"]]


@pytest.mark.parametrize(("values", "count"), [([0.9, 0.6, 0.3, 0.62], 2), ([0.6] * 4, 0)])
def test_what_a_leak_is_worth_counts_intervals_without_zero(study, values, count):
    of_means = {"seed": ALL_SEEDS, "num_seeds": 3, "protocol": "report"}
    rows = [on_every_set(study, 0.6, model="Matrix_by_group", **of_means)]
    rows += [on_every_set(study, values, model="Matrix_by_picture", **of_means)]
    rows += [on_every_set(study, 0.9, model="Matrix_by_picture", protocol="report")]  # one training
    found = tables.leak_worth(study, pd.concat(rows))
    words = tables.leak_in_words(found)
    reach = np.hypot(0.05, 0.05)
    bounds = tables.signed(values[0] - 0.6, values[0] - 0.6 - reach, values[0] - 0.6 + reach)
    assert f"by {bounds} on inpainting, " in words and tables.leak_in_words(found[:0]) == ""
    assert words.endswith(f"(mean of 3 trainings each): {count} of 4 intervals exclude 0.")


def test_the_readmes_findings_are_the_committed_rows(committed):
    readme = (config.ROOT / "README.md").read_text("utf-8")
    findings = readme.split("<!-- findings -->")[1].split("<!-- end -->")[0].strip().splitlines()
    asked = [[("demo", "Metadata", protocol, "inpainting") for protocol in config.PROTOCOLS]]
    for name, most in (("demo", "text2img"), ("faces", "sd21_text2img")):
        own = name, "Pixel_statistics_own", "controlled", most
        sets = config.STUDIES[name].test_sets
        asked.append([*((name, "EfficientNet_Lite0", "controlled", each) for each in sets), own])
    *of_networks, carried = findings
    for sentence, keys in zip(of_networks, asked, strict=True):
        rows = [committed[key] for key in keys]
        found = re.findall(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", sentence)
        assert found == [tables.interval(row.value, row.ci_low, row.ci_high) for row in rows]
    rows = pd.read_csv(config.ROOT / "figures/faces/beyond.csv")
    rows = rows[(rows["model"] == "all views") & (rows["protocol"] == "controlled")]
    for start, number in (("all", 5), ("all but", 5), ("generators but", 5), ("self-blended", 5)):
        is_exact = rows["train_set"] == start
        values = rows["value"][is_exact if is_exact.any() else rows["train_set"].str.match(start)]
        assert len(values) == number
        said = f"{values.min():.2f} to {values.max():.2f} (mean {values.mean():.2f})"
        assert said in carried
        carried = carried.split(said)[1]  # in this order


def test_the_committed_conclusions_say_what_the_committed_rows_say(committed):
    text = (config.ROOT / "figures/demo/summary.md").read_text("utf-8")
    text = flat(text.split("## The report's three conclusions")[1].split("\n## ")[0])
    study, names = config.get_study("demo"), re.findall(r"\*\*\. `(\w+)`:", text)
    assert len(names) == 3
    for model, said in zip(names, text.split("**. `")[1:]):
        for test_set in study.test_sets:
            row = committed["demo", model, "controlled", test_set]
            expected = tables.interval(row.value, row.ci_low, row.ci_high) + f" on {test_set}"
            assert expected in said.split("; from")[0]
    rows = pd.read_csv(config.ROOT / "figures/demo/results.csv").query("seed == 0")
    rows = rows.query("metric == 'auc' and protocol == 'controlled' and train_set == 'inpainting'")
    rows = rows.set_index(["model", "test_set", "real_source"])["value"]
    differences = re.findall(r"([+-]\d\.\d\d) \[[^]]*\] on (\w+)", text)
    assert [test_set for _, test_set in differences] == ["insight", "gan140k"]
    for value, test_set in differences:
        first, second = (rows[names[n], test_set, study.test_sets[test_set]] for n in (1, 0))
        assert abs(float(value) - (first - second)) < 0.02  # a pair leaves out unshared pictures
