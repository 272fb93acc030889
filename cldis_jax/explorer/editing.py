"""One visitor's image and its edits: arrays, no page."""

import dataclasses

import numpy as np

from cldis_jax import api
from cldis_jax.api.codes import finite
from cldis_jax.explorer.model import Explored

DRAGGING_STEPS = 5  # DDIM steps while a slider moves


@dataclasses.dataclass
class Visit:
    """The image that one visitor looks at, with its codes. Every visitor has an own one."""

    name: str
    file: str  # for the command line
    image: np.ndarray  # [1, H, W, C] in [-1, 1]
    code: api.Code
    unmoved: dict[tuple, np.ndarray] = dataclasses.field(default_factory=dict)  # decoded without a shift
    settled: tuple = ()  # the settings of the last picture with all its steps


def visit(explored: Explored, name: str, file: str, image: np.ndarray) -> Visit:
    """Encode an image [1, H, W, C], once.

    Raises:
      NonFiniteError: the model gives no finite code.
    """
    code = explored.editor().encode(image)
    finite(code.z, explored.bundle, "codes")
    return Visit(name, file, image, code)


def edited(
    explored: Explored, seen: Visit, shifts: dict[int, float], num_steps: int, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(decoded without shifts, decoded with them), each [H, W, C] in [-1, 1].

    Args:
      shifts: {axis: standard deviations}.
      num_steps: DDIM steps.
      seed: of a random x_T; None takes the image's own.
    """
    editor = explored.editor(num_steps)
    code = seen.code if seed is None else editor.with_random_x_T(seen.code, seed)
    if (num_steps, seed) not in seen.unmoved:
        seen.unmoved.clear()  # one is enough, and the memory of a visitor stays small
        seen.unmoved[num_steps, seed] = editor.decode(code)[0]
    before = seen.unmoved[num_steps, seed]
    moved = {k: shift for k, shift in shifts.items() if shift}
    return before, editor.shifted(code, explored.axes.steps, moved)[0] if moved else before
