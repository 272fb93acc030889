"""Stand-in networks with outputs in closed form, their parameters and images: 4x4 grey images, three latents."""

import jax
import jax.numpy as jnp

from cldis_jax.models import Networks

LATENT = 3


class Encoder:
    """z_sem[b, i] = w_i * mean of the image."""

    def apply(self, variables, x):
        return x.mean(axis=(1, 2, 3))[:, None] * variables["params"]["w"]


class Denoiser:
    """output = a x_t + mean(z)."""

    def apply(self, variables, x_t, t, z, train=False, rngs=None):
        return variables["params"]["a"] * x_t + z.mean(-1)[:, None, None, None]


class Vae:
    """mean = m * image mean, a constant log variance, decoder output = d * mean(z)."""

    def apply(self, variables, x, method):
        p = variables["params"]
        if method == "encode":
            mean = x.mean(axis=(1, 2, 3))[:, None] * p["m"]
            return mean, jnp.broadcast_to(p["log_var"], mean.shape)
        return jnp.broadcast_to(x.mean(-1)[:, None, None, None], (x.shape[0], 4, 4, 1)) * p["d"]


NETWORKS = Networks(unet=Denoiser(), semantic_encoder=Encoder(), beta_vae=Vae())
PARAMS = {
    "unet": {"a": jnp.array(0.5)},
    "semantic_encoder": {"w": jnp.array([[1.0, -2.0, 3.0]])},
    "beta_vae": {"m": jnp.array([[2.0, 1.0, -1.0]]), "log_var": jnp.array([[-1.0, -2.0, 0.0]]), "d": jnp.array(1.0)},
}
X0 = jax.random.uniform(jax.random.key(7), (6, 4, 4, 1), minval=-1, maxval=1)
KEY = jax.random.key(0)
