"""Published PyTorch weights: read a state dict from a file and check all its names and shapes.

PyTorch is an optional extra. It is imported here, for the networks of the metrics, and in `runtime/torch_files.py`, for
whole training checkpoints.
"""

import pathlib
from collections.abc import Collection, Hashable, Mapping

import numpy as np

MOST_LISTED = 8


def read(path: str | pathlib.Path, where: str) -> dict[str, np.ndarray]:
    """A state dict as arrays by name, from .npz or from a file of torch.save.

    If the file is missing, the error message contains `where`: the place where it is usually found.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file can't be read, or PyTorch is needed for it and not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: {where}")
    if path.suffix == ".npz":
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except Exception as error:
            raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    try:
        import torch
    except ImportError as error:
        raise ValueError(f"reading {path} needs PyTorch: pip install cldis_jax[torch], or save it as .npz") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except Exception as error:
        raise ValueError(f"{path} is not a state dict of PyTorch: {str(error).splitlines()[0]}") from error


def convert(
    state_dict: Mapping[str, np.ndarray],
    wanted: Mapping[Hashable, tuple[str, tuple[int, ...]]],
    unused: Collection[str],
    what: str,
) -> dict[Hashable, np.ndarray]:
    """Arrays by our own keys. `wanted` maps each key to (name in the state dict, our shape).

    Convolution kernels are transposed from [O, I, H, W] to [H, W, I, O]. Entries named in `unused` are ignored.

    Raises:
      ValueError: entries are missing, unknown or of another shape; the message names them in one line.
    """
    names = {name for name, _ in wanted.values()}
    missing = sorted(names - set(state_dict))
    unknown = sorted(set(state_dict) - names - set(unused))
    arrays, misshapen = {}, []
    for key, (name, shape) in wanted.items():
        if name in state_dict:
            array = np.asarray(state_dict[name], np.float32)
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
            arrays[key] = array
            if array.shape != shape:
                misshapen.append(f"{name} {array.shape} instead of {shape}")
    problems = [("missing", missing), ("not known", unknown), ("of another shape", misshapen)]
    if any(found for _, found in problems):
        listed = "; ".join(f"{len(found)} {problem}: {_some(found)}" for problem, found in problems if found)
        raise ValueError(f"these are not the {what} expected: {listed}")
    return arrays


def _some(names: list[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
