"""The few functions that a notebook needs, and that every command here is built on.

bundle = load("runs/quickstart")
z = bundle.encode(images)                        # [B, H, W, C] in [-1, 1] -> [B, d]
x_T = bundle.encode_noise(images, z, 100)        # the stochastic code, 100 DDIM steps
edited = bundle.decode(x_T, z + bundle.z_std * shift, 100)
"""

from cldis_jax.api.bundle import LATENTS, Bundle, Functions, abstract_averages, load, make_functions

__all__ = ["LATENTS", "Bundle", "Functions", "abstract_averages", "load", "make_functions"]
