import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from src.report import html_page


def _noise(height, width):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def _chart(height, width):
    """Lines on white, as in a plot."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[::20] = (0, 114, 178)
    pixels[:, ::30] = (213, 94, 0)
    return Image.fromarray(pixels)


def _images(text, folder):
    found = re.findall(
        r'src="data:image/(\w+);base64,([^"]*)"', html_page.to_html(text, "title", folder)
    )
    return [
        (kind, Image.open(io.BytesIO(base64.b64decode(data))), len(data)) for kind, data in found
    ]


def test_charts_become_palettes_and_photographs_jpeg():
    for image, expected in ((_chart(200, 300), "png"), (_noise(200, 300), "jpeg")):
        kind, data = html_page.compressed(image)
        shown = Image.open(io.BytesIO(data))
        assert kind == expected == shown.format.lower() and shown.size == image.size
    chart = Image.open(io.BytesIO(html_page.compressed(_chart(200, 300))[1]))
    assert np.array_equal(chart.convert("RGB"), _chart(200, 300))


def test_wide_figures_become_narrower_and_none_wider(tmp_path):
    _chart(900, 2200).save(tmp_path / "wide.png")
    _chart(90, 200).save(tmp_path / "narrow.png")
    (_, wide, _), (_, narrow, _) = _images("![a](wide.png)\n\n![b](narrow.png)", tmp_path)
    assert wide.size == (1100, 450) and narrow.size == (200, 90)


def test_all_figures_together_keep_within_the_limit(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        _noise(560, 480).save(tmp_path / f"{name}.png")
    _chart(60, 80).save(tmp_path / "small.png")
    text = "\n\n".join(f"![{name}]({name}.png)" for name in ("a", "b", "c", "small"))
    unlimited = _images(text, tmp_path)
    monkeypatch.setattr(html_page, "MAX_BYTES", 330_000)
    images = _images(text, tmp_path)
    assert (
        sum(length for *_, length in images)
        <= 330_000 * 4 / 3 + 16
        < sum(length for *_, length in unlimited)
    )
    assert images[3][1].size == (80, 60) and len({image.width for _, image, _ in images[:3]}) == 1
    assert all(
        image.width / image.height == pytest.approx(6 / 7, abs=0.01) for _, image, _ in images[:3]
    )
    monkeypatch.setattr(html_page, "MAX_BYTES", 1)  # then as small as can still be read
    assert [image.width for _, image, _ in _images(text, tmp_path)] == [400, 400, 400, 80]


def test_html_in_the_text_is_shown_and_not_obeyed(tmp_path):
    page = html_page.to_html(
        "# A <b>\n\n## Part & <i>one</i>\n\n<script>x</script>", "<title> & $x", tmp_path
    )
    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert "<title>&lt;title&gt; &amp; $x</title>" in page
    assert (
        '<h2 id="part0">' in page
        and '<a href="#part0">Part &amp; &lt;i&gt;one&lt;/i&gt;</a>' in page
    )
