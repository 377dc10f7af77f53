"""Markdown as one HTML file that needs nothing beside it: no script, no address, figures and style inside.

Reads the figures that the text links to; writes nothing (`page` does). It reads well on a telephone, in the dark and on
paper.
"""

import base64
import html
import io
from pathlib import Path
from string import Template
from urllib.parse import unquote

from markdown_it import MarkdownIt
from PIL import Image

MAX_BYTES = 1_400_000  # of all figures together; base64 makes them a third larger
MAX_WIDTH, MIN_WIDTH = 1100, 400  # of a figure, in pixels


def to_html(text: str, title: str, folder: Path) -> str:
    """The page as HTML.

    Args:
        text: Markdown; HTML in it is shown, not obeyed. A paragraph of one image becomes a figure.
        title: Of the window.
        folder: Where the figures lie that the text links to.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens, links, figures = parser.parse(text), [], []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
        if before.type == "heading_open" and before.tag == "h2":
            before.attrSet("id", f"part{len(links)}")
            links.append(f'<li><a href="#part{len(links)}">{html.escape(token.content)}</a></li>')
        if token.type == "inline" and [child.type for child in token.children] == ["image"]:
            before.tag = after.tag = "figure"
            figures.append((token.children[0], folder / unquote(token.children[0].attrs["src"])))
    for (token, _), (kind, data) in zip(figures, embedded([path for _, path in figures])):
        token.attrSet("src", f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace(
        "<table>", '<div class="table" role="region" tabindex="0" aria-label="Table"><table>'
    )
    body = body.replace("</table>", "</table></div>")
    return Template(HTML).substitute(
        title=html.escape(title), style=STYLE, links="".join(links), body=body
    )


def embedded(paths: list[Path]) -> list[tuple[str, bytes]]:
    """The figures as `compressed` gives them, all as wide at most as it takes to keep within `MAX_BYTES`."""
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
    """A picture as a PNG with a palette (which suits charts) or as JPEG (which suits photographs), what is less.

    Args:
        image: Without transparency.
        num_colors: Of the palette, at most 256; colour maps show bands with few.

    Returns:
        `"png"` or `"jpeg"`, and the file's content.
    """
    chart, photograph = io.BytesIO(), io.BytesIO()
    image = image.convert("RGB")
    image.quantize(num_colors).save(chart, "PNG", optimize=True)
    image.save(photograph, "JPEG", quality=70, optimize=True)
    return min(
        ("png", chart.getvalue()), ("jpeg", photograph.getvalue()), key=lambda each: len(each[1])
    )


HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<nav aria-label="Contents"><ol>$links</ol></nav>
<main>
$body</main>
</body>
</html>
"""
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d20; --soft: #666c74; --line: #dde0e4; --tint: #f4f5f7;
  --accent: #0a6560; --warn: #fff3d1; --edge: #d49b00; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e6e9; --soft: #9aa1a9;
  --line: #34383d; --tint: #1f2226; --accent: #6cc5be; --warn: #3a2f10; --edge: #d9a93a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; }
nav, main { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
main { padding-bottom: 4rem; }
nav ol { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0; padding: 1rem 0 0; list-style: none;
  font: .85rem/1.5 system-ui, sans-serif; }
nav a { color: var(--accent); text-decoration: none; }
h1, h2, h3 { font-family: system-ui, sans-serif; line-height: 1.25; break-after: avoid; text-wrap: balance; }
h1 { font-size: 2rem; margin: 1.5rem 0 .75rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p, li, blockquote { max-width: 44rem; }
li { margin-bottom: .45rem; }
code { font-size: .88em; background: var(--tint); padding: .08em .3em; border-radius: .25em; }
blockquote { margin: 1rem 0; padding: .6rem 1rem; background: var(--warn); border-left: 4px solid var(--edge); }
blockquote p { margin: 0; }
.table { overflow-x: auto; margin: .75rem 0 1.25rem; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font: .85rem/1.4 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .75rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; background: var(--tint); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
thead th:first-child { background: var(--tint); }
td em { color: var(--soft); }
:is(th, td):last-child { white-space: normal; min-width: 11rem; }
figure { margin: 1.25rem 0 2rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .5rem; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; }
@media print { @page { margin: 16mm; }
  body { font-size: 10pt; } nav { display: none; } main { max-width: none; padding: 0; }
  .table { overflow: visible; border: 0; } table { font-size: 7.5pt; } th, td { padding: .2rem .35rem; }
  tr { break-inside: avoid; } figure img { max-height: 220mm; padding: 0; border: 0; } }
"""
