"""The compiled program of a run: state, shardings and jitted update, from a config and a mesh alone.

Training runs it, `plan` compiles it for absent devices, `benchmark` times it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.method import train_step
from cldis_jax.runtime import partitioning


@dataclasses.dataclass(frozen=True)
class Program:
    """One architecture on one mesh: shapes and functions, no values."""

    networks: models.Networks
    shardings: train_step.TrainState  # a NamedSharding for each array of the state
    abstract_state: train_step.TrainState  # shapes, dtypes and shardings
    abstract_batch: jax.ShapeDtypeStruct  # uint8 [B, H, W, C], or [K, B, H, W, C] with K steps a dispatch
    create: Callable[..., train_step.TrainState]  # () or (uint8 images [N, H, W, C]) -> the state before the first step
    update: Callable[..., Any]  # (state, batch) -> (state, scalars); the state given is donated

    @property
    def batch_sharding(self) -> NamedSharding:
        return self.abstract_batch.sharding


def make_program(config: ConfigDict, mesh: Mesh) -> Program:
    """Make the shapes, then the shardings, then the functions, so that no array exists unsharded.

    Activations have the precision that `train.precision` selects for the mesh's devices.
    """
    dtype = models.compute_dtype(config, mesh.devices.flat[0].platform)
    networks = models.make_networks(config, dtype)
    create = functools.partial(train_step.create_state, networks, config)
    shapes = jax.eval_shape(create)
    shardings = partitioning.state_sharding(mesh, shapes, config.sharding.fsdp_min_bytes)

    def gather(params):
        """Whole arrays on each device. Split ones travel in the networks' precision, which their layers cast to."""

        def whole(array, sharding):
            if not sharding.is_fully_replicated:  # without a sharding of the cast array XLA would cast after the gather
                array = jax.lax.with_sharding_constraint(array.astype(dtype), sharding)
            return jax.lax.with_sharding_constraint(array, partitioning.replicated(mesh))

        return jax.tree.map(whole, params, shardings.params)

    def step(train_state, images):
        """One optimiser step; parameters that are split over devices are gathered before the forward pass."""
        new_state, scalars = train_step.train_step(networks, config, train_state, images, gather)
        return jax.lax.with_sharding_constraint(new_state, shardings), scalars

    def steps(train_state, images):
        """K optimiser steps in one dispatch on images [K, B, H, W, C]; each scalar has the shape [K]."""
        return jax.lax.scan(step, train_state, images)

    initialise = jax.jit(create, out_shardings=shardings, compiler_options=_on_cpu(mesh, 0))
    standardize = jax.jit(
        functools.partial(train_step.standardize_z_sem, networks),
        in_shardings=(shardings, partitioning.replicated(mesh)),
        out_shardings=shardings,
    )

    def create_state(images=None):
        """The state from the seed; z_sem is standardised over `images` where the config asks for it."""
        standardized = config.model.standardize_z_sem and networks.semantic_encoder is not None
        return standardize(initialise(), images) if standardized and images is not None else initialise()

    stacked = config.train.steps_per_dispatch > 1
    data = config.data
    batch_shape = (data.batch_size, data.image_size, data.image_size, data.channels)
    if stacked:
        batch_shape = (config.train.steps_per_dispatch, *batch_shape)
    batch_sharding = partitioning.batch_sharding(mesh, stacked=stacked)

    return Program(
        networks=networks,
        shardings=shardings,
        abstract_state=jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, shardings
        ),
        abstract_batch=jax.ShapeDtypeStruct(batch_shape, jnp.uint8, sharding=batch_sharding),
        create=create_state,
        update=jax.jit(
            steps if stacked else step,
            in_shardings=(shardings, batch_sharding),
            out_shardings=(shardings, partitioning.replicated(mesh)),
            donate_argnums=0,
            compiler_options=_on_cpu(mesh, 1),
        ),
    )


def _on_cpu(mesh: Mesh, level: int) -> dict[str, int] | None:
    """Options that make XLA:CPU compile faster: LLVM's `level` of optimisation, 3 by default.

    At 1 the step takes as long as at 3, and a quarter to a third less time to compile. 0 is for a program that runs
    once.
    """
    return {"xla_backend_optimization_level": level} if mesh.devices.flat[0].platform == "cpu" else None
