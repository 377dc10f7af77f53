"""What the study's report concludes, and whether that holds here."""

from itertools import product

import numpy as np
import pandas as pd

from ..config import Study
from . import tables


def conclusions(study: Study, auc: pd.DataFrame, best: str | None, against) -> list[tuple]:
    """The report's conclusions: what it says, whether that holds here, by which numbers.

    `auc` are rows under one protocol, `best` is the network that represents those on pixels and
    `against` the paired differences of the network on spectra from it. No rows where a detector or
    test set is missing.
    """
    near, far = (study.train_set, "text2img"), ("insight", "gan140k")
    models = best, study.fourier.name, study.autoencoder.classifier.name
    found = {(row.model, row.test_set): row for row in auc.itertuples()}
    names = (*near, *far)
    if against.empty or not {*product(models, names)} <= set(found):
        return []
    parts = [{name: found[model, name] for name in names} for model in models]
    texts = [", ".join(f"{row.text} on {name}" for name, row in part.items()) for part in parts]
    direct, fourier, _ = parts
    strong = all(direct[name].verdict == "better than chance" for name in near)
    falls = min(direct[name].ci_low for name in near) > max(direct[name].ci_high for name in far)
    rises = max(direct[name].ci_low for name in far) > min(direct[name].ci_high for name in near)
    at_chance = all(direct[name].verdict != "better than chance" for name in far)
    pairs = against.loc[[*far]]
    signs = np.sign(pairs["difference"]) * pairs["significant"]
    at_home = fourier[study.train_set].verdict == "better than chance"
    home = [part[study.train_set] for part in parts]
    weak = home[2].ci_high < min(row.ci_low for row in home[:2])
    rivals = home[2].ci_low > min(row.ci_high for row in home[:2])
    shown = pairs[["difference", "ci_low", "ci_high"]].itertuples()
    differences = ", ".join(f"{tables.signed(*row)} on {name}" for name, *row in shown)
    return [
        (
            "The direct approach is strong on Stable Diffusion, near chance on face-swaps and GANs",
            _holds(strong and falls and at_chance, strong and falls, rises),
            f"`{best}`: {texts[0]}",
        ),
        (
            "The Fourier approach is strong in-domain and carries over a little better to them",
            _holds(at_home and (signs > 0).all(), at_home and (signs > 0).any(), (signs < 0).any()),
            f"`{models[1]}`: {texts[1]}; from `{best}` (first training) {differences}",
        ),
        ("The autoencoder is weak", _holds(weak, False, rivals), f"`{models[2]}`: {texts[2]}"),
    ]


def _holds(wholly: bool, partly: bool, contradicted: bool) -> str:
    if wholly:
        return "holds"
    if partly:
        return "holds in part"
    return "does not hold" if contradicted else "not decided"
