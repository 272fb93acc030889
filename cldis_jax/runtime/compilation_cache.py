"""Compiled programs, kept on disk between commands."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

MAX_BYTES = 2 * 2**30  # JAX deletes the programs that were not used for the longest time


def use_default() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR is set (empty: keep none).

    A folder that can't be written is no error: then nothing is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.jax_compilation_cache_dir:
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder = Path(base).expanduser() / "cldis_jax" / "programs" / processor()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)


def processor() -> str:
    """A digest of the processor's type and instructions.

    A program that XLA compiled for one processor may stop on another one that shares the home folder.
    """
    found = {platform.machine(), platform.processor()}
    with contextlib.suppress(OSError):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found |= {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]
