"""Pictures from arrays: grids, curves, heat maps, animations, and their files."""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import atomic

MIN_TILE = 64  # pixels a side; smaller images are enlarged by a whole factor
MARGIN = 2
WEBP_SIDE = 16_383  # the format's largest width and height


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as uint8 RGB, whatever the number of channels (1 or 3)."""
    images = np.asarray(images, np.float32)
    images = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def grid(
    images: np.ndarray, row_labels: Sequence[str] = (), column_labels: Sequence[str] = (), title: str = ""
) -> np.ndarray:
    """One uint8 picture [H, W, 3] of a grid of images [R, C, H, W, channels] in [-1, 1], with labels at the margins.

    A column label that is wider than its column is cut on the left.
    """
    tiles = to_uint8(images)
    factor = max(1, -(-MIN_TILE // tiles.shape[2]))
    tiles = tiles.repeat(factor, axis=2).repeat(factor, axis=3)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, MARGIN), (0, MARGIN), (0, 0)), constant_values=255)
    height, width = tiles.shape[2:4]
    body = rearrange(tiles, "r c h w ch -> (r h) (c w) ch")

    font = ImageFont.load_default(size=13)
    left = max((int(font.getlength(label)) + 10 for label in row_labels), default=0)
    top = (24 if title else 0) + (20 if column_labels else 0)
    canvas = Image.new("RGB", (left + body.shape[1], top + body.shape[0]), "white")
    canvas.paste(Image.fromarray(body), (left, top))
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((4, 4), title, fill="black", font=ImageFont.load_default(size=15))
    for i, label in enumerate(column_labels):
        while font.getlength(label) > width - 2 * MARGIN and len(label) > 1:
            label = "…" + label.removeprefix("…")[1:]
        draw.text((left + (i + 0.5) * width, top - 10), label, fill="black", font=font, anchor="mm")
    for i, label in enumerate(row_labels):
        draw.text((left - 5, top + (i + 0.5) * height), label, fill="black", font=font, anchor="rm")
    return np.asarray(canvas)


def save_png(path: epath.PathLike, picture: np.ndarray) -> None:
    """Write a uint8 picture [H, W, 3]."""
    with atomic(path) as file:
        Image.fromarray(picture).save(file, format="PNG")


def save_animation(path: epath.PathLike, pictures: Sequence[np.ndarray], milliseconds: int = 120) -> None:
    """Write uint8 pictures [H, W, 3] as an endless GIF or WebP (by the path's ending), forwards and backwards.

    Raises:
      UserError: they are too large for a WebP.
    """
    height, width, _ = pictures[0].shape
    if max(height, width) > WEBP_SIDE and epath.Path(path).suffix == ".webp":
        raise UserError(
            f"{path}: {width} x {height} pixels; a WebP has at most {WEBP_SIDE} a side, a GIF may have more"
        )
    frames = [Image.fromarray(picture) for picture in pictures]
    frames += frames[-2:0:-1]
    ending = epath.Path(path).suffix.removeprefix(".").upper()
    with atomic(path) as file:
        frames[0].save(file, ending, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)


def new_figure(width: float, height: float, dpi: int = 100):
    """An empty matplotlib figure, sizes in inches, whose layout keeps labels from overlapping."""
    from matplotlib.figure import Figure  # most commands draw no plot

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def render(figure) -> np.ndarray:
    """A matplotlib figure as one uint8 picture [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def curves(history: list[dict[str, float]], panels: dict[str, Sequence[str]]) -> np.ndarray:
    """One uint8 picture with a panel for each title, drawing the named scalars of `history` over `step`."""
    figure = new_figure(4.2 * len(panels), 3.2)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for name in names:
            points = [(row["step"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points), label=name, linewidth=1.4)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    return render(figure)


def heatmap(
    values: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    scale: str = "",
    least: float = 0.0,
) -> np.ndarray:
    """One uint8 picture of a matrix [R, C] of values from `least` up, each written in its cell.

    `scale` names the colours.
    """
    rows, columns = values.shape
    figure = new_figure(2.6 + 0.75 * columns, 1.6 + 0.34 * rows)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="viridis", vmin=least, aspect="auto")
    axes.set_xticks(range(columns), column_labels, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(rows), row_labels, fontsize=8)
    for i, j in np.ndindex(rows, columns):
        colour = "white" if values[i, j] - least < 0.6 * (values.max() - least) else "black"
        axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, label=scale)
    return render(figure)
