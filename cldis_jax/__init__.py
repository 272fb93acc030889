"""CL-Dis in JAX and Flax: closed-loop unsupervised representation disentanglement (arXiv 2402.02346)."""

import importlib.machinery
import importlib.util
import pathlib
import sys

# A wheel has `cldis_jax.configs` inside this package. In a checkout its files are in configs/, beside this package.
_configs = pathlib.Path(__file__).parents[1] / "configs"
if not pathlib.Path(__file__).with_name("configs").exists():
    _spec = importlib.machinery.ModuleSpec(f"{__name__}.configs", loader=None, is_package=True)
    _spec.submodule_search_locations = [str(_configs)]
    sys.modules[_spec.name] = configs = importlib.util.module_from_spec(_spec)
