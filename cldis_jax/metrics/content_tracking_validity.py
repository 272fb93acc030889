"""The validity study under its earlier name. It is now `cldis_jax.study.content_tracking_validity`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cldis_jax.study.content_tracking_validity", run_name="__main__")
