"""Imports for the process from which tests/test_docs.py forks commands; each command then starts without imports."""

import cldis_jax.evaluation.registry
import cldis_jax.navigation.search
import cldis_jax.prior.training
import cldis_jax.runtime.events
import cldis_jax.study.running
import cldis_jax.training.train  # noqa: F401
