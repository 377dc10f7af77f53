"""The drawing at the top of the README: the way of a picture, and what there is to see."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from . import style

STATIONS = {
    "photograph": "a face,\nas a camera saw it",
    "generator": "paints the face anew,\nor swaps it",
    "file": "has a size and a JPEG\nquality: a shortcut",
    "protocol": "report: as it lies.\ncontrolled: all alike",
    "detector": "looks at pixels, at a\nspectrum or at an error",
    "score": "is worth what it finds of\ngenerators never seen",
}
_WIDTH, _HEIGHT = 0.88, 0.66  # of a box; one station is one unit


@style.styled
def pipeline(faces: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """The stations of a picture as boxes, above faces and, larger, one eye of each.

    `faces` are by name a picture `(H, W, 3)` and its eye `(h, w, 3)`, `uint8`.
    """
    rows = ("a picture", f"one eye, {len([*faces.values()][0][1])} pixels wide")
    figure, axes = style.new_axes([*faces], 12 / len(faces), 2.2, 1.9, rows=rows)
    for column, shown in zip(axes.T, faces.values()):
        for axis, picture in zip(column, shown):
            style.show_picture(axis, picture)
    share = 1.9 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - share))
    above = figure.add_axes((0, 1 - share, 1, share))
    above.set_in_layout(False)
    above.set(xlim=(-0.5, len(STATIONS) - 0.5), ylim=(0, 1), xticks=[], yticks=[])
    style.remove_frame(above)
    for place, (name, text) in enumerate(STATIONS.items()):
        corner = (place - _WIDTH / 2, (1 - _HEIGHT) / 2)
        look = {"boxstyle": "round,pad=0.02", "facecolor": "#f3f3f3", "edgecolor": style.GREY}
        above.add_patch(FancyBboxPatch(corner, _WIDTH, _HEIGHT, **look))
        above.text(place, 0.67, name, ha="center", va="center", weight="bold", fontsize=13)
        above.text(place, 0.4, text, ha="center", va="center", fontsize=10)
        if place:
            arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.5}
            ends = (place - _WIDTH / 2, 0.5), (place - 1 + _WIDTH / 2, 0.5)
            above.annotate("", *ends, arrowprops=arrow | {"shrinkA": 4, "shrinkB": 4})
    return figure
