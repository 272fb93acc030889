"""The study over trained models under its earlier name. It is now `cldis_jax.study.content_tracking_models`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cldis_jax.study.content_tracking_models", run_name="__main__")
