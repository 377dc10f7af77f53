import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from itertools import product

import made_results as made
import numpy as np
import pandas as pd
import pytest
from made_results import answers, cells_of, flat, made_rows, on_every_set
from PIL import Image

from src import config
from src.data import catalog
from src.evaluation.comparisons import differences
from src.evaluation.metrics import choose_threshold
from src.evaluation.results import RESULT_KEYS, write_results, write_scores
from src.report import original, page
from src.report.numbers import with_texts
from src.report.readme import readme_table, update_readme

DETECTORS = {"Metadata": "metadata", "PCA_probe": "pca", "VGG16_V1": "direct", "VGG16_V3": "direct"}
DETECTORS |= {"Fourier_DenseNet": "fourier", "Autoencoder_classifier": "autoencoder"}
DETECTORS |= {"Autoencoder_error": "autoencoder"}
SOURCES = config.STUDIES["tiny"].test_sets
PARTLY = ["holds in part", "holds in part", "holds"]
METRICS = """auc precision_real recall_real f1_real accuracy f1 accuracy_at_threshold
    f1_at_threshold recall_real_at_threshold""".split()


def _headline(auc=None):
    """Rows of every detector, protocol, test set and metric; `auc` gives AUCs by the first three,
    in the order model, test set, protocol."""
    keys = [*product(DETECTORS, config.PROTOCOLS, SOURCES, METRICS)]
    rows = pd.DataFrame(keys, columns=["model", "protocol", "test_set", "metric"])
    values = [
        (auc or {}).get((model, test_set, protocol), 0.8) if metric == "auc" else 0.7
        for model, protocol, test_set, metric in keys
    ]
    approach, source = rows["model"].map(DETECTORS), rows["test_set"].map(SOURCES)
    return made_rows(**rows, approach=approach, real_source=source, value=values)


def _answers(study, rows):
    return answers(page.summary(study, rows))


def _written(study):
    """What stands in the two files that `write_summary` writes."""
    paths = page.write_summary(study)
    assert [path.name for path in paths] == ["summary.md", "summary.html"]
    return [path.read_text(encoding="utf-8") for path in paths]


def _draw(study, *names):
    study.figures.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (40, 30), "red").save(study.figures / f"{name}.png")


def _attributes(web, tag, name):
    """The values of an attribute of all such tags."""
    return list(map(unescape, re.findall(rf'<{tag}\b[^>]*\b{name}="([^"]*)"', web)))


def test_a_whole_page(study):
    rows = pd.concat([_headline(), made.for_every_table(study)[0]])
    write_results(study, rows.drop_duplicates([*RESULT_KEYS, "metric"]))
    _draw(study, "03_curves")
    text, web = _written(study)
    assert "> **Simulated data.**" in text and "![curves](03_curves.png)" in text
    assert " nan" not in text.lower() and "$" not in text and "∅" not in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings)) and "### Several seeds" in headings
    shown = unescape(re.sub("<[^>]*>", "", web))
    assert shown.count("Simulated data.") == 1
    assert all(heading.lstrip("# ").replace("`", "") in shown for heading in headings)
    assert text.count("\n| --- |") == web.count("<table>") == web.count('<div class="table"')


def test_html_refers_to_nothing_outside_itself(study):
    strange = made_rows(model="<script>x</script>", value=0.6)
    write_results(study, pd.concat([_headline(), strange]))
    _draw(study, "03_a [b](c) <i>", "06_auc", "07_100% “ü” & $x")
    text, web = _written(study)
    assert not re.search("<script|<link|<i>|http", web)
    assert sorted(_attributes(web, "img", "alt")) == ["100% “ü” & $x", "a [b](c) <i>", "auc"]
    for source in _attributes(web, "img", "src"):
        start, data = source.split(",", 1)
        assert re.fullmatch("data:image/(png|jpeg);base64", start)
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (40, 30)
    links = _attributes(web, "a", "href")
    assert links and set(links) == {f"#{each}" for each in _attributes(web, "h2", "id")}
    assert text.count("](06_auc.png)") == 1  # shown at the top, and only there


def test_real_people_stay_where_they_are(study):
    write_results(study, _headline())
    people = """01_samples 03_pictures 03_Mistakes_report 03_explanations 04_spectra 05_errors
        05_reconstructions""".split()
    # On no list: kept out, too.
    people += "07_new_figure 03_loss_faces 3_curves curves 02_pictures_pca_2d".split()
    plots = """02_file_traits 02_leaks 02_pca_2d 02_pca_scree 02_pixel_statistics 02_shortcut
        03_confusion 03_curves 03_curves_report 04_mean_spectra 04_radial_profiles 04_rings
        05_embeddings 05_error_histograms 05_loss 05_loss_report 06_differences 06_false_alarms
        06_matrix_direct 06_reliability 06_robustness 06_roc 06_subgroups""".split()
    _draw(study, *people, *plots, "06_auc")
    text, web = _written(replace(study, simulation=None, description="photographs"))
    shown = [name[3:].replace("_", " ") for name in plots]
    assert _attributes(web, "img", "alt") == ["auc", *shown]
    assert "![" not in text and "*In `summary.html`: curves*" in text
    left_out = text[text.index("Left out, since they show people, or may: ") :].split("\n")[0]
    assert all(f" {name}.png" in left_out for name in people)
    assert not any(f" {name}.png" in left_out for name in plots)
    assert "imulated" not in text and "Ours are of the pictures of this study." in flat(text)
    assert _written(study)[1].count("<img") == len(people + plots) + 1


def test_only_the_header_is_the_file_alone(study):
    """Whatever place and shape of the face tell, and whatever approach they are said to have."""
    by_protocol = {"report": 0.9, "controlled": 0.5}
    values = {("Metadata", name, key): by_protocol[key] for name in SOURCES for key in by_protocol}
    rows = _headline(values)
    alone = _answers(study, rows)[0]
    assert alone.startswith("A classifier that sees only the header")
    assert "`report` and of 0.50 [0.45, 0.55]" in alone
    box = on_every_set(study, [0.1, 0.2, 0.3, 0.95], model="Face_box", approach="metadata")
    others = [box.assign(protocol=name) for name in by_protocol]
    text = flat(page.summary(study, pd.concat([rows, *others])))
    assert alone in text
    counts = "4 of 4 intervals above 0.5 and 0 below it under `report`, and 0 of 4 intervals above"
    assert f"fitted on inpainting, has {counts} 0.5 and 0 below it under `controlled`." in text
    values[("Metadata", "insight", "report")] = 0.2
    counts = "3 of 4 intervals above 0.5 and 1 below it under `report`"
    assert counts in flat(page.summary(study, _headline(values)))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Metadata", "the header"),
        ("Face_box", "place and shape of the face"),
        ("Pixel_statistics", "statistics of the pixels"),
    ],
)
def test_what_a_baseline_fitted_on_each_generator_exploits_is_counted(study, name, what):
    fitted = {"model": f"{name}_own", "approach": "pixels", "train_set": [*SOURCES]}
    own = on_every_set(study, [0.9, 0.5, 0.1, 0.8], **fitted, protocol="report")
    own = pd.concat([_headline(), own])
    counts = "2 of 4 intervals above 0.5 and 1"
    assert f"itself, {what} alone has {counts}" in flat(page.summary(study, own))
    said = f"fitted on each generator itself, it has {counts}" in _answers(study, own)[0]
    assert said == (name == "Metadata")


def test_how_spectra_differ_is_a_paired_test_of_each_seed(study):
    study = replace(study, extra_seeds=(1, 2))
    found = []
    for seed, shift in enumerate((-2.0, 2.5, 0.9)):
        variant = f"-seed{seed}" * (seed > 0)
        pair = [f"{name}-controlled{variant}" for name in ("Fourier_DenseNet", "VGG16_V3")]
        write_scores(study, pair[0], made.scores(shift, seed=10 * seed + 1))
        if seed == 0:
            said = "how it compares with `VGG16_V3` there is not known"
            assert said in _answers(study, _headline())[3]
        write_scores(study, pair[1], made.scores(1.0, seed=10 * seed))
        found.append(differences(study, [pair]).iloc[0])
    first, values = found[0], np.array([row.difference for row in found])
    assert [row.significant for row in found] == [True, True, False]
    assert (values > 0).tolist() == [False, True, True]
    answer = _answers(study, _headline())[3]
    assert (
        f"a difference of {first.difference:+.2f} [{first.ci_low:+.2f}, {first.ci_high:+.2f}] to "
        f"the first training of `VGG16_V3` on the same pictures, significant (p = "
        f"{first.p_adjusted:.2g} after Holm's correction for 3 test sets); over 3 seeds the mean "
        f"difference is {values.mean():+.3f}; 1 of them have the sign of the first and 2 are "
        "significant;"
    ) in answer


def test_networks_that_did_not_learn_have_a_dagger_in_the_readme(study):
    values = {("VGG16_V1", "inpainting", "controlled"): 0.52}  # the interval holds 0.5
    values |= {("Metadata", "inpainting", "controlled"): 0.52}
    values |= {("VGG16_V3", "insight", "controlled"): 0.3}  # elsewhere
    write_results(study, _headline(values))
    _, cells = cells_of(readme_table(study))
    assert len(cells) == len(DETECTORS)
    [row] = [row for row in cells if "†" in "".join(row)]
    assert row[0] == "VGG16_V1"
    assert row[1].startswith("0.80 → 0.52†") and all("→ 0.80†" in cell for cell in row[2:])


def test_the_network_that_speaks_for_the_others_is_the_one_that_was_named(study):
    better_on_test = {("VGG16_V1", "inpainting", "controlled"): 0.95}
    rows = _headline(better_on_test | {("VGG16_V3", "inpainting", "controlled"): 0.52})
    sentences = _answers(study, rows)
    assert sentences[1].startswith("`VGG16_V3`, which represents 2 networks on pixels")
    assert "0.52 [0.47, 0.57]" in sentences[1]
    assert sentences[1].endswith(": not better than chance, in one training.")
    assert "it did not learn in-domain, so this says nothing about what" in sentences[2]
    without = _answers(study, rows[rows["model"] != "VGG16_V3"])
    assert "AUCs of 1 other lie from 0.95 [0.90, 1.00] to 0.95 [0.90, 1.00]" in without[1]
    assert "on pixels have 3 of 3 intervals above 0.5 and 0 below it; text2img" in without[2]
    assert "the network on pixels to compare it with has no result" in without[3]


def test_what_carries_over_and_how_fourier_compares(study):
    given = {"VGG16_V3": (0.9, 0.7, 0.2, 0.53), "Fourier_DenseNet": (0.7, 0.9, 0.9, 0.6)}
    values = {
        (model, name, "controlled"): value
        for model in given
        for name, value in zip(SOURCES, given[model])
    }
    _, _, elsewhere, fourier, autoencoder = _answers(study, _headline(values))
    assert "0.48 on average, from 0.20 [0.15, 0.25] on insight to 0.70 [0.65, 0.75]" in elsewhere
    assert "] on text2img, with 1 of 3 intervals above 0.5 and 1 below it;" in elsewhere
    assert "did not learn" not in elsewhere
    at_home = "0.70 [0.65, 0.75] on inpainting: better than chance, in one training, and how"
    assert at_home in fourier
    assert "it reaches 0.80 on average, with 3 of 3 intervals above 0.5" in fourier
    both = "0.80 [0.75, 0.85], better than chance, and 0.80 on average elsewhere"
    assert autoencoder.count(both) == 2
    values[("Fourier_DenseNet", "inpainting", "controlled")] = 0.3
    assert "inpainting: worse than chance," in _answers(study, _headline(values))[3]


def test_sentences_without_their_numbers_say_so(study):
    rows = _headline()
    nothing = _answers(study, rows.iloc[:0])
    assert all("not known" in sentence for sentence in nothing[:4])
    assert nothing[4].count("has no result (notebook 5)") == 2
    some = rows[~rows["approach"].isin(["metadata", "direct"])]
    assert all("is not known" in sentence for sentence in _answers(study, some)[:3])
    assert "is not known" in _answers(study, rows[rows["approach"] != "fourier"])[3]
    assert "not known" in _answers(study, rows[rows["protocol"] == "report"])[1]
    only_home = rows[rows["test_set"] == "inpainting"]
    _, _, elsewhere, fourier, _ = _answers(study, only_home)
    assert "not known" in elsewhere
    assert fourier.endswith("how the two compare on other generators is not known.")


def test_what_was_not_run_is_named_with_its_command(study):
    rows = _headline()
    text = page.summary(study, rows.query("model != 'VGG16_V3' or test_set != 'gan140k'"))
    missing = text[text.index("## What was not run") : text.index("## Environment")]
    simulated = "- Real photographs: `STUDY=full` or `STUDY=faces`."
    how = "any test set: `make reproduce STUDY=tiny`, notebook 3"
    assert simulated in missing and f"- DenseNet_V1 under `report` on {how}" in missing
    assert "- VGG16_V3 under `controlled` on gan140k: " in missing and "- VGG16_V1" not in missing
    for title in ("Trained on every", "Robustness", "Parts of the test set", "Where the"):
        assert f"### {title}" not in text and f"- {title}" in missing
    assert missing.count("`make extended STUDY=tiny`") == 1
    assert "The same fakes against other real photographs: `make reproduce STUDY=tiny`" in missing
    asked = replace(study, unseen_reals=(), foreign_reals={}, simulation=None)
    none = page.summary(asked, rows)
    assert none.count("the study names none") == 2 and simulated not in none


def test_the_page_of_next_to_nothing(study):
    write_results(study, made_rows(test_set="gan140k", real_source="gan140k", value=0.5))
    text = _written(study)[0]
    assert "### AUC under `controlled`" in text and "### AUC under `report`" not in text
    assert "Not answered here" in text and "nan" not in text.lower().replace("nano", "")
    with pytest.raises(FileNotFoundError, match="Run the notebooks"):
        page.write_summary(replace(study, name="empty"))


def _write_scores_and_records(study, leak=False, **columns):
    """Scores of one detector, its card, and records with these columns; with a leak, a test group
    is in training, too."""
    sizes = {"train": 20, "valid": 10, "test": 15}
    keys = [(split, label, n) for split in sizes for label in (0, 1) for n in range(sizes[split])]
    records = pd.DataFrame(keys, columns=["split", "label", "number"])
    records["group"] = records["person"] = records["split"] + records.pop("number").astype(str)
    records["path"] = records["group"] + "/" + records["label"].astype(str) + ".jpg"
    records["generator"] = records["label"].map({0: "real", 1: "inpainting"})
    records["dataset"] = "wiki"
    scores = records[records["split"] != "train"].assign(test_set="inpainting", real_source="wiki")
    scores["score"] = np.random.default_rng(0).random(len(scores))
    write_scores(study, "VGG16_V3-controlled", scores)
    valid = scores[scores["split"] == "valid"]
    card = {"threshold": choose_threshold(valid["label"], valid["score"]), "seed": 0}
    card |= {"slope": 1.25, "intercept": -0.5, "starts_from": "ImageNet"}
    study.models.mkdir(parents=True, exist_ok=True)
    (study.models / "VGG16_V3-controlled.json").write_text(json.dumps(card))
    if leak:
        records.loc[0, "group"] = "test3"
        records.loc[1, "person"] = "test7"
    records["label"] = records["label"].map(dict(enumerate(config.LABELS)))
    catalog.save(study, records.assign(width=1, height=1, **columns), pd.DataFrame())
    return scores


def test_the_sceptic_is_answered_from_scores_cards_and_records(study):
    write_results(study, _headline({("PCA_probe", "inpainting", "report"): 0.2}))
    _write_scores_and_records(study)
    history = pd.DataFrame({"epoch": [1, 2], "val_loss": [0.5, 0.4], "seconds": 5.2})
    history = history.assign(images_per_second=[30, 32])
    history.to_csv(study.models / "VGG16_V3-controlled.history.csv", index=False)
    text = flat(_written(study)[0])
    for words in (
        "### Is there a leak between training and test? Not of pictures: of the 15 groups",
        "0 reach into validation and 0 reach into training. Of 45 persons whom the sources name, "
        "0 are in training and in test. ### Do the test sets agree",
        "Trained on 20 fakes and 20 reals, validated on 10 fakes and 10 reals",
        "1 of 1 cards hold what is found again",
        "| VGG16_V3-controlled | ImageNet | 0 |",
        "| 1.250 | -0.500 | 2 of 2 | 10 s | 31 |",
        "has 4 of 4 intervals above 0.5 and 0 below it under `report`, and 4 of 4 intervals",
        "40 of the 40 intervals of detectors that see pictures exclude 0.5; of as many detectors "
        "that guess about 2 would",
    ):
        assert words in text
    (study.models / "VGG16_V3-controlled.json").write_text(json.dumps({"threshold": 0.123}))
    assert "0 of 1 cards hold" in flat(_written(study)[0])


def test_leaks_are_called_leaks(study):
    write_results(study, _headline())
    scores = _write_scores_and_records(study, leak=True)
    text = flat(_written(study)[0])
    assert "training and test? Yes: " in text and "1 are in training and in test" in text
    assert "0 reach into validation and 1 reach into training" in text
    crossing = scores.assign(group="one")
    crossing.to_parquet(study.data / "scores" / "VGG16_V3-controlled.parquet")
    with pytest.raises(ValueError, match="a group in several splits"):
        page.write_summary(study)


def test_a_leak_of_persons_is_unknown_where_none_are_named(study):
    write_results(study, _headline())
    _write_scores_and_records(study, person="")
    text = flat(_written(study)[0])
    assert "Unknown for persons in wiki: no source names them." in text
    assert "persons whom the sources name" not in text


def test_readme_table_shows_headline_rows_and_gaps(study):
    rows = made.made_results()
    others = [rows.assign(seed=1, value=0.0), rows.assign(real_source="celeba", value=0.0)]
    variant = rows.query("approach == 'direct' and protocol == 'controlled'")
    variant = variant.assign(model="VGG16_V3_variant")
    write_results(study, pd.concat([rows, *others, variant]))
    header, rows = cells_of(readme_table(study))
    assert header == ["detector", *study.test_sets]
    names = ["boosting", "VGG16_V3", "VGG16_V3_variant", "Fourier_DenseNet"]
    assert [row[0] for row in rows] == names
    assert rows[2][1:3] == ["– → 0.50†", "– → –"]
    fourier = ["0.60 → 0.60", "– → –", "0.60 → 0.60", "– → –"]
    assert rows[3][1:] == fourier


def test_the_readme_answers_as_the_page_does(study, tmp_path):
    readme = tmp_path / "README.md"
    blocks = [f"<!-- {what}: tiny -->\nold\n<!-- end -->" for what in ("results", "answers")]
    readme.write_text("# Title\n" + "\n".join(blocks), encoding="utf-8")
    assert not update_readme(readme)  # nothing was run
    write_results(study, _headline())
    text = _written(study)[0]
    assert update_readme(readme) and not update_readme(readme)
    new = readme.read_text(encoding="utf-8")
    answers = re.search(r"<!-- answers: tiny -->\n\n(.*?)\n\n<!-- end -->", new, re.DOTALL)[1]
    assert re.findall(r"^\d", answers, re.MULTILINE) == [*"12345"] and answers in text
    assert readme_table(study) in new and "old" not in new


@pytest.mark.usefixtures("committed")
def test_the_readme_shows_the_committed_results(tmp_path):
    readme = tmp_path / "README.md"
    shutil.copy(config.ROOT / "README.md", readme)
    assert not update_readme(readme), "run python -m src.report.readme"


@pytest.mark.parametrize(
    ("direct", "fourier", "coder", "differences", "expected"),
    [
        # At home, text2img, insight, gan140k.
        ((0.9, 0.9, 0.5, 0.52), (0.8, 0.7, 0.7, 0.7), 0.6, (0.2, 0.2), ["holds"] * 3),
        ((0.9, 0.9, 0.6, 0.5), (0.8, 0.7, 0.7, 0.5), 0.6, (0.2, 0), PARTLY),
        ((0.9, 0.7, 0.7, 0.85), (0.8, 0.7, 0.5, 0.7), 0.97, (-0.2, 0), ["does not hold"] * 3),
        ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5), 0.5, (0, 0), ["not decided"] * 3),
    ],
)
def test_the_reports_conclusions_are_judged_by_intervals(
    study, direct, fourier, coder, differences, expected
):
    values = {"VGG16_V3": direct, "Fourier_DenseNet": fourier, "Autoencoder_classifier": coder}
    rows = [with_texts(on_every_set(study, value, model=name)) for name, value in values.items()]
    against = pd.DataFrame({"difference": differences}, index=["insight", "gan140k"])
    against = against.assign(ci_low=-0.1, ci_high=0.1, significant=against["difference"] != 0)
    found = original.conclusions(study, pd.concat(rows), "VGG16_V3", against)
    assert [verdict for _, verdict, _ in found] == expected
    assert f"{direct[2]:.2f} [" in found[0][2] and f"{differences[0]:+.2f} [" in found[1][2]
    assert original.conclusions(study, pd.concat(rows[:2]), "VGG16_V3", against) == []
