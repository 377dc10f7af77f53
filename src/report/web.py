"""Pages: tables in Markdown, and Markdown as one HTML file with its figures inside."""

import base64
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from ..files import TEMPLATES

MAX_BYTES = 1_400_000  # of all figures together; base64 makes them a third larger
MAX_WIDTH, MIN_WIDTH = 1100, 400  # of a figure, in pixels
_HEADERS = {"model": "detector", "train_set": "trained on", "test_set": "tested on"}


def to_markdown(frame: pd.DataFrame, decimals: int = 2) -> str:
    """The table in Markdown: floats with so many decimals, missing values empty.

    An index with names becomes columns, named for readers. Empty without rows.
    """
    if frame.empty:
        return ""
    if frame.index.names != [None]:
        frame = frame.rename_axis(index=_HEADERS).reset_index()

    def text(value) -> str:
        shown = f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
        return "" if pd.isna(value) else shown.replace("|", "\\|").replace("\n", " ")

    rows = [frame.columns, ["---"] * frame.shape[1], *frame.astype(object).to_numpy()]
    return "\n".join("| " + " | ".join(map(text, row)) + " |" for row in rows)


def escape(text: str) -> str:
    """A name from outside (a file, a generator) on one line, as Markdown that shows it as it is."""
    return re.sub(r"([\\`*\[\]<>&~]|\b_|_\b)", r"\\\1", " ".join(str(text).split()))


def to_html(text: str, title: str, folder: Path) -> str:
    """Markdown as one HTML page without scripts or addresses, with the figures of `folder` inside.

    HTML in the text is escaped; a paragraph of one image becomes a figure, its text below. Text
    under a heading of the third level is folded, except under the first.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens, headings, figures = parser.parse(text), [], []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
        if before.type == "heading_open" and before.tag == "h2":
            before.attrSet("id", f"part{len(headings)}")
            headings.append(token.content)
        if token.type == "inline" and [child.type for child in token.children] == ["image"]:
            before.tag = after.tag = "figure"
            before.attrSet("tabindex", "0")  # a click or a key enlarges it
            caption = f"<figcaption>{html.escape(token.children[0].content)}</figcaption>"
            token.children.append(Token("html_inline", "", 0, content=caption))
            figures.append(token.children[0])
    paths = [folder / unquote(figure.attrs["src"]) for figure in figures]
    for figure, (kind, data) in zip(figures, _embedded(paths)):
        figure.attrSet("src", f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    body = parser.renderer.render([*_folded(tokens)], parser.options, {})
    region = '<div class="table" role="region" tabindex="0" aria-label="Table"><table>'
    body = body.replace("<table>", region).replace("</table>", "</table></div>")
    template = TEMPLATES.get_template("report/page.html.jinja")
    return template.render(title=title, headings=headings, body=body)


def _folded(tokens: list[Token]) -> Iterator[Token]:
    """The tokens with `<details>` around the text under headings of the third level."""
    opening, closing = "<details open>", ""
    for token in [*tokens, Token("heading_open", "h1", 1, hidden=True)]:
        is_heading = token.type == "heading_open" and token.tag in ("h1", "h2", "h3")
        if is_heading and closing:
            yield Token("html_block", "", 0, content=closing)
            closing = ""
        if is_heading and token.tag == "h3":
            yield Token("html_block", "", 0, content=f"{opening}<summary>")
            opening, closing = "<details>", "</details>\n"
        yield token
        if token.type == "heading_close" and token.tag == "h3":
            yield Token("html_block", "", 0, content="</summary>\n")


def _embedded(paths: list[Path]) -> list[tuple[str, bytes]]:
    """The figures, `compressed`, at the largest width that keeps all within `MAX_BYTES`."""
    width = MAX_WIDTH
    while True:
        files = []
        for path in paths:
            with Image.open(path) as image:
                image = image.convert("RGB")
            image.thumbnail((width, image.height))
            files.append(compressed(image, num_colors=256))
        total = sum(len(data) for _, data in files)
        if total <= MAX_BYTES or width == MIN_WIDTH:
            return files
        # Bytes grow a little faster than the width: this takes two or three rounds.
        width = max(MIN_WIDTH, int(width * (MAX_BYTES / total) ** 0.8) - 5)


def compressed(image: Image.Image, num_colors: int = 128) -> tuple[str, bytes]:
    """`"png"` with a palette of `num_colors` or `"jpeg"`, whichever is smaller, and its bytes.

    Colour maps show bands with few colours; 256 are possible. The image has no transparency.
    """
    chart, photograph = io.BytesIO(), io.BytesIO()
    image = image.convert("RGB")
    image.quantize(num_colors, Image.Quantize.FASTOCTREE).save(chart, "PNG", optimize=True)
    image.save(photograph, "JPEG", quality=70, optimize=True)
    files = ("png", chart.getvalue()), ("jpeg", photograph.getvalue())
    return min(files, key=lambda file: len(file[1]))
