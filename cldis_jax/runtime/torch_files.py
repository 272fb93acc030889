"""Tensors of a PyTorch checkpoint as NumPy arrays, without running code that the file contains.

Reads checkpoints of whole trainings (Lightning's), which hold more than tensors. `metrics/weights.py` reads plain state
dicts by itself, because the metrics import nothing of the project. Only these two files import PyTorch, an optional
extra.
"""

import io
import pickle
from typing import Any

import numpy as np

from cldis_jax.runtime.errors import UserError

# What tensors and plain containers are made of. Everything else in a checkpoint (optimisers, callbacks, configs of
# packages that aren't installed) becomes an inert Skipped, so that no code named in the file runs.
ALLOWED_MODULES = ("torch._utils", "torch._tensor", "torch.storage", "torch.nn.parameter")
ALLOWED = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("torch", "Size"),
    ("_codecs", "encode"),
}


class CheckpointFileError(UserError):
    """A checkpoint file that is missing, or that PyTorch can't read."""


class Skipped:
    """Replaces an object that isn't read; accepts all that unpickling does to it."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_storage = module == "torch" and (name.endswith("Storage") or name in DTYPES)
        is_rebuild = module in ALLOWED_MODULES and (name.startswith("_rebuild") or name.endswith("Storage"))
        if is_storage or is_rebuild or (module, name) in ALLOWED:
            return super().find_class(module, name)
        return Skipped


DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "device")


class _TensorPickle:
    """A pickle module, as torch.load expects one."""

    Unpickler = _Unpickler

    @staticmethod
    def load(file: io.IOBase, **kwargs) -> Any:
        return _Unpickler(file, **kwargs).load()


def read(path: str) -> dict[str, Any]:
    """The checkpoint's dictionary, with its tensors as NumPy arrays, on the CPU.

    Raises:
      CheckpointFileError: PyTorch isn't installed, the file is missing, or torch.save wrote no dictionary.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CheckpointFileError(
            "reading a PyTorch checkpoint needs PyTorch: pip install 'cldis_jax[torch]', or pip install torch"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", pickle_module=_TensorPickle, weights_only=False)
    except FileNotFoundError as error:
        raise CheckpointFileError(f"no checkpoint file {path}") from error
    except Exception as error:  # damaged bytes raise errors of any kind
        first_line = next(iter(str(error).splitlines()), "")
        raise CheckpointFileError(
            f"{path} can't be read as a PyTorch checkpoint ({type(error).__name__}: {first_line})"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointFileError(f"{path} contains a {type(content).__name__}, not a dictionary of tensors")
    return _to_numpy(torch, content)


def _to_numpy(torch, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return np.asarray(value.float() if value.dtype in (torch.bfloat16, torch.float16) else value)
    if isinstance(value, dict):
        return {key: _to_numpy(torch, item) for key, item in value.items()}
    return value
