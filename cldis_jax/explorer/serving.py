"""Serve the page: from the command line, from a notebook, over ssh."""

import getpass
import os
import socket
from typing import Any

import numpy as np

from cldis_jax import api
from cldis_jax.explorer import drawing
from cldis_jax.explorer.editing import DRAGGING_STEPS, edited, visit
from cldis_jax.explorer.model import Explored, explored
from cldis_jax.runtime.errors import UserError

LOOPBACK = "127.0.0.1"
MOST_UPLOADED = "50mb"


def explore(bundle: api.Bundle, **options) -> Any:
    """Show a model's page in a notebook; returns Gradio's Blocks, whose `close()` ends it.

    Args:
      options: of `explored`, such as `files` to start from.
    """
    return serve(explored(bundle, **options), block=False)


def serve(
    first: Explored,
    second: Explored | None = None,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    block: bool = True,
) -> Any:
    """Serve the page of a model, compared with a second one if it is given; returns Gradio's Blocks.

    Args:
      host: which addresses are served: by default only this machine's own.
      port: None takes a free one from 7860 up.
      block: whether to wait until the process is interrupted.

    Raises:
      UserError: Gradio is not installed, or the port is taken.
    """
    try:
        from cldis_jax.explorer import page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("the page needs Gradio: pip install 'cldis_jax[explore]'") from error
    for model in filter(None, (first, second)):
        warm(model)
    blocks = page.page(first, second)
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MOST_UPLOADED,
            css=drawing.CSS,
            footer_links=[],
            ssr_mode=False,
        )
    except OSError as error:
        raise UserError(f"--port={port} can't be served: {error}; give another --port") from error
    end = "Ctrl-C ends it." if block else "close() ends it."
    print(f"The explorer is at {address}", *tunnel(blocks.server_port), end, sep="\n", flush=True)
    if block:
        blocks.block_thread()
    return blocks


def tunnel(port: int) -> list[str]:
    """Over ssh, the command that brings the page to the user's own machine; else nothing."""
    if not os.environ.get("SSH_CONNECTION"):
        return []
    there = os.environ["SSH_CONNECTION"].split()[2]
    return [
        f"Over ssh, on your own machine: ssh -N -L {port}:localhost:{port} {getpass.getuser()}@{there}   "
        f"(or {socket.gethostname()}), then open http://localhost:{port}"
    ]


def warm(model: Explored) -> None:
    """Compile the programs of the sliders before the first visitor waits for them."""
    blank = np.zeros((1, *model.bundle.image_shape), np.float32)
    print("compiling", end="", flush=True)
    seen = visit(model, "", "", blank)
    for steps in (model.bundle.config.diffusion.decode_steps, DRAGGING_STEPS):
        print(".", end="", flush=True)
        edited(model, seen, {0: 1.0}, steps)
    print(flush=True)
