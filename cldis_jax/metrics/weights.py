"""Published PyTorch weights: reading a state dict from a file, and checking every name and shape in it.

PyTorch, an optional extra, is imported here for the networks of the metrics, and in `runtime/torch_files.py` for whole
training checkpoints.
"""

import pathlib
from collections.abc import Collection, Hashable, Mapping

import numpy as np

MOST_LISTED = 8


def read(path: str | pathlib.Path, where: str) -> dict[str, np.ndarray]:
    """A state dict as arrays by name, from .npz or from a file of torch.save.

    `where` tells, in the error of a missing file, where it is usually found.

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
    """Arrays by our own keys, from `wanted`: key -> (name in the state dict, our shape).

    Convolution kernels change from [O, I, H, W] to [H, W, I, O]. Names in `unused` may be there and are dropped.

    Raises:
      ValueError: one line naming what is missing, unknown or of another shape.
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
    troubles = [("missing", missing), ("not known", unknown), ("of another shape", misshapen)]
    if any(found for _, found in troubles):
        listed = "; ".join(f"{len(found)} {trouble}: {_some(found)}" for trouble, found in troubles if found)
        raise ValueError(f"these are not the {what} expected: {listed}")
    return arrays


def _some(names: list[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
