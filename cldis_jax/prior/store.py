"""The latent prior on disk: `WORKDIR/latent_prior/`, in checkpoints of the same form as the model's."""

import functools

import jax
import jax.numpy as jnp
from etils import epath
from ml_collections import ConfigDict

from cldis_jax.prior.method import LatentPrior, PriorAverages, PriorState, create_state
from cldis_jax.runtime import checkpoint

FOLDER = "latent_prior"


def prior_dir(workdir: str) -> str:
    return str(epath.Path(workdir) / FOLDER)


def exists(workdir: str) -> bool:
    """Whether there is a prior; a training that stopped before its first save leaves none."""
    return checkpoint.has_any(prior_dir(workdir))


def check_trainable(workdir: str) -> None:
    """Raise CheckpointError for a prior that `save` wrote: training can't continue without the optimiser state."""
    if not exists(workdir):
        return
    folder = epath.Path(prior_dir(workdir))
    newest = checkpoint.kept_steps(prior_dir(workdir))[-1]
    if not (folder / "checkpoints" / str(newest) / "state").exists():
        raise checkpoint.CheckpointError(
            f"{workdir} has a latent prior that came with an import or an export and has no optimiser state to train "
            f"on; sample it with python -m cldis_jax.sample --workdir={workdir} --prior=latent, or move {folder} away "
            "and train one"
        )


def load(workdir: str) -> LatentPrior:
    """The prior of a model's workdir.

    Raises:
      checkpoint.CheckpointError: there is none.
    """
    if not exists(workdir):
        raise checkpoint.CheckpointError(
            f"no latent prior in {workdir}: train one with python -m cldis_jax.latent_prior --workdir={workdir}"
        )
    with checkpoint.reader(prior_dir(workdir)) as checkpoints:
        config = checkpoints.config()
        averages, step = checkpoints.restore_ema(abstract_state(config).ema)
    return LatentPrior(config, averages, step)


def abstract_state(config: ConfigDict) -> PriorState:
    """Shapes of the state, on one local device."""
    zeros = jnp.zeros(config.model.latent_dim)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(functools.partial(create_state, config), zeros, zeros)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes)


def save(workdir: str, config: ConfigDict, averages: PriorAverages, step: int) -> None:
    """Write a prior without optimiser state, for sampling only."""
    with checkpoint.Checkpoints(prior_dir(workdir)) as checkpoints:
        checkpoints.save(step, config, averages)
        checkpoints.wait()
