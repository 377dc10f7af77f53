"""Faults that pages once had, numbered: rows that would bring them out (1, 2, 7, 9: elsewhere)."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_results import answers, flat, for_every_table, on_every_set, scores

from src import config
from src.evaluation import comparisons
from src.evaluation.results import ALL_SEEDS, read_results, write_results, write_scores
from src.report import page, tables
from src.report.readme import readme_table

CODERS = ["Autoencoder_classifier", "Autoencoder_error"]


def test_4_the_first_training_never_stands_for_three(study):
    parts = [on_every_set(study, value, seed=seed) for seed, value in enumerate((0.97, 0.72, 0.84))]
    parts += [on_every_set(study, 0.8433, seed=ALL_SEEDS, num_seeds=3, ci_low=0.61, ci_high=0.93)]
    parts += [part.assign(protocol="report") for part in parts]
    write_results(study, pd.concat(parts))
    text = page.summary(study, read_results(study)) + readme_table(study)
    assert answers(text)[1].endswith(": better than chance, mean of 3 trainings.")
    assert "0.97" not in text and "reaches 0.84 [0.61, 0.93]" in text
    assert text.count("| 0.84 [0.61, 0.93] ") == 8 and text.count("| 0.84 → 0.84 ") == 4


def test_5_no_fall_comes_from_files_whose_headers_tell_nothing(study):
    texts = [flat(page.summary(study, *for_every_table(study)))]
    texts += [file.read_text("utf-8") for file in (config.ROOT / "notebooks").glob("*.ipynb")]
    said = [each for text in texts for each in re.split(r"\. ", text) if " fall " in each]
    said = [each for each in said if "come from the f" in each]
    assert len(said) > 1
    assert all(" may come from " in each and "`Metadata_own`" in each for each in said)


def test_6_a_codec_in_common_is_named_whoever_speaks(study):
    real = replace(study, simulation=None, description="photographs")
    for name in ("VGG16_V1", "VGG16_V3"):  # the second represents the others
        sets = [on_every_set(each, model=name) for each in (study, real)]
        found = [answers(page.summary(*pair))[2] for pair in zip((study, real), sets)]
        assert "networks of the same kind as the one that made the inpaint" in found[0]
        assert "text2img comes from the decoder of inpainting, so that part of what" in found[1]
    without = on_every_set(study).query("test_set != 'text2img'")
    assert "same kind" not in answers(page.summary(study, without))[2]


def test_8_an_interval_without_zero_is_no_significant_difference_in_a_family(study):
    study = replace(study, test_sets={"inpainting": "wiki", "insight": "wiki"})
    pair = ("Fourier_DenseNet-controlled", "VGG16_V3-controlled")
    write_scores(study, pair[0], scores(0.75, seed=3))
    write_scores(study, pair[1], scores(1.0))
    found = comparisons.differences(study, [pair])
    assert found["ci_high"][0] < 0 and found["p_value"][0] < 0.05 < found["p_adjusted"][0]
    rows = [on_every_set(study), on_every_set(study, model="Fourier_DenseNet", approach="fourier")]
    assert "same pictures, not significant (p" in answers(page.summary(study, pd.concat(rows)))[3]
    assert not tables.difference_table(found, "first", "test_set").iloc[0, 0].endswith("*")
    assert tables.significant(found)["significant"][0] == "0 of 1"


def test_4_and_10_the_page_claims_no_more_than_was_done(study):
    text = flat(page.summary(study, *for_every_table(study)))
    for words in (
        "not only to what was generated. One training each.",
        "by the first training alone",
        ", of the first training alone",
        "on these photographs; the autoencoder learnt to reconstruct others of celeba.",
        "but brings them to size in its own way",
    ):
        assert words in text
    assert "own preprocessing" not in text + (config.ROOT / "README.md").read_text("utf-8")


def test_11_what_did_not_learn_is_marked_in_every_table_and_sentence(study):
    text = page.summary(study, *for_every_table(study))
    assert set(re.findall(r"\| (VGG16_V3[^|]*) \|", text)) == {"VGG16_V3 †"}
    assert sum("VGG16_V3 †" in part for part in text.split("\n### ")) == 13  # all but the matrix
    names = ["VGG16_V3", study.fourier.name, *CODERS]
    parts = [on_every_set(study, [0.52, 0.8, 0.8, 0.8], model=name) for name in names]
    parts += [on_every_set(study, model=name) for name in "ABC"]
    text = page.summary(study, pd.concat(parts))
    assert [each.count("it did not learn in-domain") for each in answers(text)] == [0, 0, 1, 1, 1]
    assert "3 networks that learned in-domain and 4 test sets under controlled" in text


def _points():
    """The five points of the demo's committed page, and its detectors on pixels and on spectra."""
    points = answers((config.ROOT / "figures/demo/summary.md").read_text("utf-8"))
    return points, re.match("`(.*?)`", points[1])[1], config.get_study("demo").fourier.name


def test_every_number_of_the_five_sentences_is_that_of_the_rows(committed):
    """But for the paired difference: see below."""
    (points, best, fourier), study = _points(), config.get_study("demo")
    home, *others = study.test_sets

    def value(model, test_set=home, protocol="controlled"):
        row = committed["demo", model, protocol, test_set]
        return [f"{each:.2f}" for each in (row.value, row.ci_low, row.ci_high)]

    def verdict(model, test_set=home, protocol="controlled"):
        return tables.against_chance(committed["demo", model, protocol, test_set])

    def counts(model, test_sets=others, protocol="controlled"):
        found = [verdict(model, name, protocol) for name in test_sets]
        above, below = (found.count(f"{word} than chance") for word in ("better", "worse"))
        return [str(above), str(len(found)), str(below)]

    def values(model):
        return [committed["demo", model, "controlled", name].value for name in others]

    def mean(model):
        return f"{np.mean(values(model)):.2f}"

    low, _, high = np.array(others)[np.argsort(values(best))]
    own = [counts("Metadata_own", study.test_sets, protocol) for protocol in config.PROTOCOLS]
    coders = [[*value(name), mean(name), *counts(name)] for name in CODERS]
    expected = [
        [*value("Metadata", protocol="report"), *value("Metadata"), *own[0], *own[1]],
        [str(len(study.direct)), *value(best), "3", *value(study.probe.name)],
        ["3", mean(best), *value(best, low), *value(best, high), *counts(best)],
        [*value(fourier), "3", "3", mean(fourier), *counts(fourier), mean(best)],
        [*coders[0], *coders[1]],
    ]
    said = [re.sub(r" above 0\.5 | [+-]\d.*;(?= on \d)", " ", point) for point in points]
    assert [re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", each) for each in said] == expected
    for model, point in zip((best, fourier, CODERS[0]), (points[1], *points[3:])):
        assert re.search("(not better|better|worse) than chance", point)[0] == verdict(model)


@pytest.mark.usefixtures("committed")
def test_the_demos_paired_difference_is_that_of_the_rows_of_each_seed():
    """Both networks have scored the same pictures. Interval and p are of scores per image."""
    points, best, fourier = _points()
    said = r"([+-]\S+) \[.*\] to the first training of `(\w+)` .* over (\d) seeds the mean .* is "
    said += r"(\S+); (\d) of them have the sign of the first"
    found = re.search(said, points[3]).groups()
    rows = pd.read_csv(config.ROOT / "figures/demo/results.csv").query(
        "metric == 'auc' and protocol == 'controlled' and seed >= 0 and real_source == 'wiki' and "
        "test_set == 'inpainting' and train_set == 'inpainting' and model in [@best, @fourier]"
    )
    by_seed = rows.pivot(index="seed", columns="model", values="value")
    values = by_seed[fourier] - by_seed[best]
    agree = (np.sign(values) == np.sign(values[0])).sum()
    assert found == (f"{values[0]:+.2f}", best, "3", f"{values.mean():+.3f}", str(agree))
    assert len(values) == 3


def test_what_the_readme_says_of_the_demo_by_hand(committed):
    demo = {key[1:]: row for key, row in committed.items() if key[0] == "demo"}
    boxes = [row for key, row in demo.items() if key[:2] == ("Face_box_own", "controlled")]
    assert len(boxes) == 4
    assert all(round(box.ci_low, 2) <= 0.5 <= round(box.ci_high, 2) for box in boxes)
    readme = (config.ROOT / "README.md").read_text("utf-8")
    said = re.findall("`(.*?)`", re.search(".* are means over three trainings", readme)[0])
    means = {key[0] for key, row in demo.items() if key[1] == "controlled" and row.num_seeds == 3}
    assert set(said) == {"controlled", *means}
