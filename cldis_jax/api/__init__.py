"""The functions that a notebook needs; every command uses them too.

bundle = load("runs/quickstart")
z = bundle.encode(images)                        # [B, H, W, C] in [-1, 1] -> [B, d]
x_T = bundle.encode_noise(images, z, 100)        # the stochastic code, 100 DDIM steps
edited = bundle.decode(x_T, z + bundle.z_std * shift, 100)

editor = Editor(bundle, "z_sem")
code = editor.encode(images)                     # z and x_T together
editor.traverse(code, axes(bundle, "z_sem").steps, [-2, 0, 2])
"""

from cldis_jax.api.bundle import LATENTS, Bundle, Functions, abstract_averages, load, make_functions
from cldis_jax.api.editor import Axes, Code, Editor, axes

__all__ = ["LATENTS", "Axes", "Bundle", "Code", "Editor", "Functions"]
__all__ += ["abstract_averages", "axes", "load", "make_functions"]
