"""The panel of notebook 8: uploaded pictures are judged in memory; none is written to disk."""

import io
import os
from collections.abc import Sequence
from functools import partial

import ipywidgets as widgets
import pandas as pd

from .predict import Detector, delivered, draw, judge, score

MAX_PICTURES = 32
MAX_BYTES = 20_000_000  # of all together
_QUALITIES = [("as it is", ()), *((str(q), (f"jpeg:{q}",)) for q in (95, 90, 80, 70, 60, 50, 40))]
_SCALES = [("as it is", ()), *((f"1/{k}", (f"downscale:{k}",)) for k in (1.5, 2, 3, 4))]
_SHOWN = ["path", "face", "verdict", "probability", "warnings"]
_WIDE = {"width": "auto"}


class Panel(widgets.VBox):
    """Uploads pictures, shows their verdicts, and what scale and JPEG do to the score of a face.

    Args:
        detectors: Of `predict.load`, by name; the first one is chosen at the start.
        files: Judged until something is uploaded; as `predict.judge` takes them.
    """

    def __init__(self, detectors: dict[str, Detector], files: Sequence):
        self._detectors, self._files = detectors, files
        style = {"style": {"description_width": "110px"}, "layout": _WIDE}
        self.detector = widgets.Dropdown(options=[*detectors], description="Detector", **style)
        self.upload = widgets.FileUpload(accept="image/*", multiple=True, description="Pictures")
        self.message, self.table, self.number = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.face = widgets.Dropdown(description="Face", **style)
        slider = partial(widgets.SelectionSlider, continuous_update=False, **style)
        self.scale = slider(options=_SCALES, description="Shrunk to")
        self.quality = slider(options=_QUALITIES, description="Saved as JPEG")
        self.figure = widgets.Image(format="png", layout=_WIDE)
        hint = f"At most {MAX_PICTURES} pictures and {MAX_BYTES // 10**6} MB at a time. They stay "
        hint += "on this computer, in memory, and are gone when the page is closed."
        controls = [self.face, self.scale, self.quality]
        children = [widgets.HTML(f"<p>{hint}</p>"), self.detector, self.upload, self.message]
        children += [self.table, *controls, self.number, self.figure]
        super().__init__(children, layout={"max_width": "860px", "padding": "0 12px 0 0"})
        self.upload.observe(self._uploaded, "value")
        self.detector.observe(lambda _: self._judge(self._files), "value")
        for control in controls:
            control.observe(self._redraw, "value")
        self._judge(files)

    def _uploaded(self, change) -> None:
        """Judges what was uploaded, or says why not."""
        uploads, num_bytes = change["new"], sum(upload["size"] for upload in change["new"])
        if not uploads:
            return
        if len(uploads) > MAX_PICTURES or num_bytes > MAX_BYTES:
            received = f"received {len(uploads)} pictures of {num_bytes / 10**6:.1f} MB"
            limits = f"at most {MAX_PICTURES} pictures and {MAX_BYTES // 10**6} MB at a time"
            self.message.value = f"<b>Nothing was judged: {received}; expected {limits}.</b>"
        else:
            files = [io.BytesIO(upload["content"]) for upload in uploads]
            for file, upload in zip(files, uploads):
                file.name = upload["name"]
            self._judge(files)
        self.upload.value = ()  # frees the memory, and lets the same file be uploaded again

    def _judge(self, files: Sequence) -> None:
        """Fills the table and the list of faces."""
        self._files = files
        self.message.value = f"Judging {len(files)} …"
        tables, options = [], []
        for table, squares in judge(files, self._detectors[self.detector.value]):
            table["path"] = table["path"].map(os.path.basename)
            judged = table[table["error"].isna()].itertuples()
            for row, square in zip(judged, squares, strict=True):
                options.append((f"{row.path}, face {row.face}", (row, square)))
            tables.append(table.assign(warnings=table["warnings"].fillna(table["error"])))
        look = {"index": False, "justify": "left", "float_format": "{:.2f}".format}
        table = pd.concat(tables)[_SHOWN].astype(object).fillna("").to_html(**look)
        table = table.replace('border="1"', 'cellpadding="6"')
        self.table.value = f'<div style="overflow-x: auto">{table}</div>'
        self.message.value = ""
        self.face.options = options
        self.face.index = 0 if options else None  # draws it, unless that was done

    def _redraw(self, _=None) -> None:
        """Scores the chosen face after the chosen deliveries, and draws it."""
        if self.face.value is None:
            self.number.value, self.figure.value = "", b""
            return
        row, square = self.face.value
        detector = self._detectors[self.detector.value]
        pixels = delivered(square, (*self.scale.value, *self.quality.value), detector)
        [probability], _ = score(pixels[None], detector)
        side = "fake" if probability >= detector.threshold else "real"
        self.number.value = (
            f"Delivered so, the probability of fake is <b>{probability:.2f}</b>, on the side of "
            f"<b>{side}</b>; as it is, {row.probability:.2f}. Verdict: <b>{row.verdict}</b>."
        )
        figure = draw(pixels, detector, f"probability of fake {probability:.2f}")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        self.figure.value = stream.getvalue()
