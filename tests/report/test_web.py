import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.report import web


def _noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _chart(height, width):
    """Lines on white, as in a plot."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[::20], pixels[:, ::30] = (0, 114, 178), (213, 94, 0)
    return Image.fromarray(pixels)


def _sizes(folder, *names):
    """The sizes of the figures in a page, and how long their texts are together."""
    text = web.to_html("\n\n".join(f"![{name}]({name}.png)" for name in names), "title", folder)
    found = re.findall(r'src="data:image/\w+;base64,([^"]*)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in found]
    return sizes, sum(map(len, found))


@pytest.mark.parametrize(("image", "expected"), [(_chart(200, 300), "png"), (_noise(9, 9), "jpeg")])
def test_charts_become_palettes_and_photographs_jpeg(image, expected):
    kind, data = web.compressed(image)
    shown = Image.open(io.BytesIO(data))
    assert kind == expected == shown.format.lower() and shown.size == image.size
    assert kind == "jpeg" or np.array_equal(shown.convert("RGB"), image)


def test_palettes_keep_the_colours_of_classes_apart():
    """A little of insight's green in a figure full of shades of other colours."""
    real, fake, insight = (0, 114, 178), (213, 94, 0), (0, 158, 115)
    shades = np.linspace(0, 1, 400)[:, None]
    rows = [shades * color + (1 - shades) * 255 for color in (real, fake, (0, 0, 0))]
    pixels = np.repeat(rows, 60, axis=0).astype(np.uint8)
    pixels[90:94, 100:104] = insight
    kind, data = web.compressed(Image.fromarray(pixels))
    shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"), int)[92, 102]
    distance = [np.abs(shown - color).sum() for color in (real, fake, insight)]
    assert kind == "png" and np.argmin(distance) == 2 and distance[2] < 30, shown


def test_figures_become_narrower_never_wider_and_keep_within_the_limit(tmp_path, monkeypatch):
    for name, image in {"wide": _chart(900, 2200), "small": _chart(60, 80)}.items():
        image.save(tmp_path / f"{name}.png")
    assert _sizes(tmp_path, "wide", "small")[0] == [(1100, 450), (80, 60)]
    for name in "ab":
        _noise(560, 480).save(tmp_path / f"{name}.png")
    unlimited = _sizes(tmp_path, "a", "b", "small")[1]
    monkeypatch.setattr(web, "MAX_BYTES", 220_000)
    (*large, small), length = _sizes(tmp_path, "a", "b", "small")
    assert length <= 220_000 * 4 / 3 + 16 < unlimited
    assert small == (80, 60) and len(set(large)) == 1
    assert large[0][0] / large[0][1] == pytest.approx(6 / 7, abs=0.01)
    monkeypatch.setattr(web, "MAX_BYTES", 1)  # then as small as can still be read
    assert [width for width, _ in _sizes(tmp_path, "a", "b", "small")[0]] == [400, 400, 80]


def test_html_in_the_text_is_escaped(tmp_path):
    text = "# A <b>\n\n## Part & <i>one</i>\n\n<script>x</script>"
    text = web.to_html(text, "<title> & $x", tmp_path)
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
    assert "<title>&lt;title&gt; &amp; $x</title>" in text and '<h2 id="part0">' in text
    assert '<a href="#part0">Part &amp; &lt;i&gt;one&lt;/i&gt;</a>' in text


def test_markdown():
    frame = pd.DataFrame({"a|b": [1.23456, np.nan], "n": [3, 4], "text": ["x|y", None]}, [7, 8])
    lines = web.to_markdown(frame, decimals=1).splitlines()
    assert lines[:2] == ["| a\\|b | n | text |", "| --- | --- | --- |"]
    assert lines[2:] == ["| 1.2 | 3 | x\\|y |", "|  | 4 |  |"]


def test_parts_of_the_third_level_are_folded_but_the_first(tmp_path):
    _chart(60, 80).save(tmp_path / "a.png")
    text = "# T\n\n## A\nx\n\n### one\n1\n\n### two\n2\n\n![<b>](a.png)\n\n## B\ny\n\n### three\n3"
    body = web.to_html(text, "title", tmp_path).split("<main>")[1].split("</main>")[0]
    part = r"<details( open)?><summary><h3>(\w+)</h3>\s*</summary>(.*?)</details>"
    folded = re.findall(part, body, re.DOTALL)
    assert [is_open + name for is_open, name, _ in folded] == [" openone", "two", "three"]
    inside = [re.sub(r"<figure.*|<[^>]*>|\s", "", part, flags=re.DOTALL) for *_, part in folded]
    assert inside == [*"123"] and "<figcaption>&lt;b&gt;</figcaption>" in folded[1][2]
    outside = re.sub(r"<details.*?</details>", "", body, flags=re.DOTALL)
    assert [*re.sub(r"<[^>]*>|\s", "", outside)] == [*"TAxBy"]
