"""What all tabs do with Gradio's events: one computation at a time, and a sentence in place of a traceback."""

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from cldis_jax.runtime.errors import UserError

# One queue for everything that computes: on a few cores two computations at once are slower than one after the other.
COMPUTES = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
PROGRESS = gr.Progress()  # as a default argument it asks Gradio for a bar
NO_IMAGE = "Choose an image above, or drop one of your own."


def sentences(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose UserError appears on the page as a sentence."""

    @functools.wraps(function)
    def guarded(*arguments, **options):
        try:
            return function(*arguments, **options)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return guarded


def needs_image(seen: Any) -> None:
    """Raise UserError if the visitor has chosen no image."""
    if seen is None:
        raise UserError(NO_IMAGE)
