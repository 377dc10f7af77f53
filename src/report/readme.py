"""What the README says of results: `python -m src.report.readme` writes it there.

Every number is of a file in `figures/<study>/`.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import PROTOCOLS, ROOT, STUDIES, Study
from ..evaluation.results import read_results
from ..files import TEMPLATES, write_text
from . import tables
from .numbers import with_texts
from .web import to_markdown


def readme_table(study: Study) -> str:
    """AUC of all detectors and test sets, in Markdown: `report → controlled`."""
    results = read_results(study)
    rows = tables.headline(study, results).query("metric == 'auc'")
    texts = rows["value"].map("{:.2f}".format) + np.where(tables.unlearned(rows), "†", "")
    rows = rows.assign(text=texts, order=rows["protocol"], protocol="")
    rows = tables.in_reading_order(study, rows)
    values = tables.wide(rows, ["model", "test_set"], "order", "text").reindex(columns=[*PROTOCOLS])
    texts = values.fillna("–").agg(" → ".join, axis=1).unstack("test_set", sort=False)
    return to_markdown(texts.reindex(columns=[*study.test_sets]).fillna("– → –"))


def answers(study: Study) -> str:
    """The five points of the summary page."""
    page = (study.figures / "summary.md").read_text("utf-8")
    return page.split("## The answer in five points\n")[1].split("\n\n")[0]


def findings(demo: Study) -> str:
    """What the README says first: the file alone, then the first of `headline` on two studies."""
    faces, learnt, baseline = STUDIES["faces"], {}, {}
    for study in (faces, demo):
        rows = with_texts(tables.headline(study, read_results(study)).query("metric == 'auc'"))
        texts = rows.pivot(index="test_set", columns=["model", "protocol"], values="text")
        learnt[study.name] = texts[study.headline[0], "controlled"]
        baseline[study.name] = texts["Pixel_statistics_own", "controlled"].sort_values()
    names = {"demo": demo, "faces": faces, "header": texts["Metadata"].loc[demo.train_set]}
    values = pd.read_csv(faces.figures / "beyond.csv", index_col="train_set")
    values = values.query("model == 'all views' and protocol == 'controlled'")["value"]
    carried = values.groupby(values.index.str.replace("(?<= but) .*", "", regex=True))
    template = TEMPLATES.get_template("report/findings.md.jinja")
    return template.render(learnt=learnt, baseline=baseline, carried=dict([*carried]), **names)


def minutes(study: Study) -> str:
    """How long a run took; `tools.run_notebooks --in-place` measures it."""
    times = pd.read_csv(study.figures / "minutes.csv")
    last = times.set_index("notebook").loc["all"]
    begun = "from nothing" if last["from_nothing"] else "with all networks trained before"
    return (
        f"A run {begun} took {last['minutes']:.0f} minutes on "
        f"{last['num_cores']} CPU cores, {study.num_jobs} notebooks at a time with at most "
        f"{last['gigabytes']:.1f} GB of memory each, not counting mapped files."
    )


def update_readme(readme: Path = ROOT / "README.md") -> bool:
    """Writes findings, times, tables and answers into the README. Returns whether it changed."""
    writers = {"findings": findings, "minutes": minutes}
    writers |= {"results": readme_table, "answers": answers}

    def block(found: re.Match) -> str:
        mark, what, name = found.groups()
        study = STUDIES[name or "demo"]
        if not all((study.figures / file).is_file() for file in ("results.csv", "summary.md")):
            return found[0]
        return f"{mark}\n\n{writers[what](study)}\n\n<!-- end -->"

    text = readme.read_text("utf-8")
    marks = rf"(<!-- ({'|'.join(writers)})(?:: (\w+))? -->).*?<!-- end -->"
    new = re.sub(marks, block, text, flags=re.DOTALL)
    if new != text:
        write_text(readme, new)
    return new != text


if __name__ == "__main__":
    print("README.md rewritten" if update_readme() else "README.md is up to date")
