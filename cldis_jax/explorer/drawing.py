"""Pictures inside HTML: they need no file, so that no visitor can ask for those of another."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cldis_jax.runtime import visualize

SIDE = 224  # pixels of a shown picture; smaller ones are enlarged by the browser
SMALL = 76  # pixels of a tile
CSS = """
.cldis-row {display: flex; flex-wrap: wrap; gap: 10px}
.cldis-row figure {margin: 0; flex: 1 1 140px; max-width: 224px}
.cldis-row figcaption {font-size: 13px}
.cldis-row img {width: 100%}
.cldis-grid {overflow-x: auto}
.cldis-grid table, .cldis-grid tr {border: 0 !important; width: auto}
.cldis-grid td, .cldis-grid th {border: 0 !important; padding: 1px 2px !important; font-size: 12px; font-weight: normal}
.cldis-grid th {white-space: nowrap}
.cldis-grid td img {min-width: 76px}
.cldis-row img, .cldis-grid img, .cldis-strip img {image-rendering: pixelated; display: block}
.cldis-wide {overflow-x: auto}
@media (max-width: 700px) {
  :has(#edited) {overflow: visible !important}
  .cldis-shown {display: contents !important}
  .cldis-shown > * {flex: 1 1 100%}
  #edited {order: -1; position: sticky; top: 0; z-index: 2; background: var(--body-background-fill); padding: 4px 0}
  #edited .cldis-row {gap: 4px}
  #edited .cldis-row figure {flex: 1 1 60px}
  #edited .cldis-row figcaption {font-size: 10px; line-height: 1.2}
}
.cldis-wide img {max-width: none}
"""


def uri(picture: np.ndarray, kind: str = "PNG", **options: int) -> str:
    """A uint8 picture [H, W, 3] as a data URI; `options` are Pillow's for the format."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=kind, **options)
    return _uri(file.getvalue(), kind.lower())


def animation_uri(pictures: Sequence[np.ndarray], milliseconds: int = 120) -> str:
    """uint8 pictures [H, W, 3] as an endless WebP that runs forwards and backwards, as a data URI."""
    frames = [Image.fromarray(picture) for picture in [*pictures, *pictures[-2:0:-1]]]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, lossless=True)
    return _uri(file.getvalue(), "webp")


def bytes_uri(content: bytes, kind: str) -> str:
    """The content of a picture's file as a data URI."""
    return _uri(content, kind)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def image(source: str, title: str = "", width: int = SIDE, name: str = "") -> str:
    """An <img>; `title` appears when the mouse is over it."""
    title, name = html.escape(title, quote=True), html.escape(name, quote=True)
    return f'<img src="{source}" width="{width}" alt="{title or name}" title="{title}" data-name="{name}">'


def row(pictures: dict[str, np.ndarray]) -> str:
    """Images [H, W, C] in [-1, 1], or uint8 pictures, in a row that wraps, each with its caption."""
    shown = []
    for caption, picture in pictures.items():
        tile = picture if picture.dtype == np.uint8 else visualize.to_uint8(picture)
        name = caption.partition(" ")[0]
        text = html.escape(caption)
        shown.append(f"<figure>{image(uri(tile), name=name)}<figcaption>{text}</figcaption></figure>")
    return f'<div class="cldis-row">{"".join(shown)}</div>'


def grid(images: np.ndarray, rows: Sequence[str], columns: Sequence[str], titles: Sequence[Sequence[str]]) -> str:
    """A table of images [R, C, H, W, channels] in [-1, 1]; `titles` [R][C] appear under the mouse."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in ["", *columns])
    body = []
    for name, tiles, texts in zip(rows, visualize.to_uint8(images), titles):
        cells = "".join(f"<td>{image(uri(tile), text, SMALL)}</td>" for tile, text in zip(tiles, texts))
        body.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f'<div class="cldis-grid"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def wide(source: str, name: str = "") -> str:
    """A picture at its own size, which scrolls sideways in a narrow window."""
    return f'<div class="cldis-wide"><img src="{source}" alt="{name}"></div>'


def download(picture: np.ndarray, file: str, text: str) -> str:
    """A link that saves a uint8 picture as a PNG named `file`."""
    return f'<a href="{uri(picture)}" download="{html.escape(file, quote=True)}">{html.escape(text)}</a>'


def heat(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where two images [H, W, C] in [-1, 1] differ, uint8 [H, W, 3]: black not at all, white by half the range."""
    from matplotlib import colormaps

    change = np.abs(np.asarray(after) - np.asarray(before)).mean(axis=-1)
    return (colormaps["magma"](np.clip(change, 0, 1))[..., :3] * 255).astype(np.uint8)
