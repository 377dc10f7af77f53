"""A model card beside each trained detector, in the form that Hugging Face's hub reads."""

from pathlib import Path

import pandas as pd

from ..config import Study
from ..files import TEMPLATES, write_text


def write(study: Study, name: str, shape: tuple, card: dict, rows: pd.DataFrame) -> Path:
    """Writes `<name>.README.md` from a detector's card and its rows of `results.csv`.

    `shape` is that of one input. The head is YAML: JSON values are valid in it.
    """
    auc = rows[(rows["metric"] == "auc") & rows["value"].notna()]
    metrics = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"type": study.name, "name": f"{row.test_set} against {row.real_source}"},
            "metrics": [{"type": "roc_auc", "value": round(row.value, 4)}],
        }
        for row in auc.itertuples()
    ]
    head = {
        "license": "mit" if study.simulated else "other",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["generated-faces", "deepfake-detection", card["approach"]],
        "model-index": [{"name": name, "results": metrics}],
    }
    own = {"name": name, "shape": str(shape)[1:-1], "head": head, "auc": auc}
    own["trained_on"] = study.training(card["train_set"])
    text = TEMPLATES.get_template("detectors/model_card.md.jinja").render(card, **own)
    return write_text(study.models / f"{name}.README.md", text)
