"""The page that shows a trained model in a browser, and the same as one file.

In a notebook: `from cldis_jax.explorer import explore; explore(bundle)`.
"""

from cldis_jax.explorer.serving import explore

__all__ = ["explore"]
