"""The search for directions on a trained model: its decoders, the codes that are moved, and the loop."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cldis_jax import api, data, models
from cldis_jax.method import diffusion
from cldis_jax.models import pixels
from cldis_jax.navigation import method as navigation_method
from cldis_jax.runtime import checkpoint, partitioning, preemption, report

ENCODE_BATCH = 64
# XLA:CPU runs the gradients of convolutions inside loops about 25 times slower (github.com/jax-ml/jax/issues/12868).
UNROLLED_STEPS = 8  # of DDIM, the most that are written out on a CPU
SAVES = 20  # checkpoints over the whole search


def latent_of(config: ConfigDict) -> str:
    """The latent that a decoder reads."""
    return "z_disen" if config.decoder == "vae" else "z_sem"


def check_devices(config: ConfigDict, num_devices: int) -> None:
    """Raise ValueError where a batch can't be split over the devices."""
    if config.data.batch_size % num_devices:
        raise ValueError(f"--batch_size={config.data.batch_size} is not divisible by the {num_devices} devices")


def check_decoder(config: ConfigDict, bundle: api.Bundle) -> None:
    """Raise ValueError where the model lacks the decoder, or the decoder can't do what is asked."""
    if config.decoder == "vae" and not bundle.has_vae:
        raise ValueError("decoder=vae: this model has no VAE, it was trained with vae.weight=0; use ddim or x0")
    if config.decoder != "vae" and not bundle.has_diffusion:
        raise ValueError(f"decoder={config.decoder}: this model is a VAE alone, diffusion.weight=0; use decoder=vae")
    total = bundle.config.diffusion.num_steps
    if config.decoder == "x0" and not 0 <= config.noise_level < total:
        raise ValueError(f"noise_level={config.noise_level} is not a timestep in 0..{total - 1}")
    if config.decoder == "ddim" and config.decode_steps > total:
        raise ValueError(f"decode_steps={config.decode_steps} is more than the {total} steps of the diffusion")


def make_decoder(config: ConfigDict, functions: api.Functions) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """`decode(params, z, x_T)` -> images, differentiable in z: few-step DDIM, one prediction of x_0, or the VAE's."""
    prediction, schedule = functions.config.diffusion.prediction, functions.schedule

    def ddim(params, z, x_T):
        tables = diffusion.ddim_tables(schedule, config.decode_steps)
        denoise = functools.partial(_denoise, functions, params, z)
        unroll = jax.default_backend() == "cpu" and config.decode_steps <= UNROLLED_STEPS
        return diffusion.ddim_decode(denoise, prediction, tables, x_T, remat=True, unroll=unroll)

    def x0(params, z, x_T):
        t = config.noise_level
        output = _denoise(functions, params, z, x_T, jnp.full(x_T.shape[:1], t))
        return diffusion.predict_x0(prediction, output, x_T, schedule.signal[t], schedule.noise[t])

    def vae(params, z, x_T):
        return functions.decode_vae(params, z)

    return {"ddim": ddim, "x0": x0, "vae": vae}[config.decoder]


def _denoise(functions, params, z, x_t, t):
    return functions.output(params, x_t, t, z)


def encode(bundle: api.Bundle, latent: str, source: data.Source, indices: np.ndarray) -> np.ndarray:
    """Codes [N, d] of the source's images at `indices`."""
    codes = []
    for start in tqdm(
        range(0, len(indices), ENCODE_BATCH), "encoding the images", unit="batch", leave=False, disable=None
    ):
        rows = np.arange(start, start + ENCODE_BATCH).clip(max=len(indices) - 1)  # padded: one shape, one program
        images = pixels.to_unit_range(jnp.asarray(source.fetch(indices[rows])))
        codes.append(np.asarray(bundle.represent(images, latent))[: len(indices) - start])
    codes = np.concatenate(codes)
    if not np.isfinite(codes).all():
        raise FloatingPointError(f"the encoder of step {bundle.step} gives codes that are not finite")
    return codes


class Found(NamedTuple):
    """A search that has been done."""

    state: navigation_method.NavigationState
    history: list[dict[str, float]]  # the learning curve
    steps: int  # done now
    compile_seconds: float | None  # until the first step was under way; None where nothing was left to do
    seconds_per_step: float | None  # median over logged blocks but the first; None where there was but one


class Search:
    """One search: the compiled step and the compiled question, over the mesh that the config names."""

    def __init__(self, config: ConfigDict, bundle: api.Bundle, codes: np.ndarray):
        self.config, self.latent_dim, self.image_shape = config, codes.shape[1], bundle.image_shape
        self.mesh = partitioning.make_mesh(config)
        self.scales = codes.std(axis=0)
        replicated = partitioning.replicated(self.mesh)
        # By way of the host: an array of one process's device can't be moved to the devices of all.
        on_host = jax.device_get(bundle.ema.params), codes, self.scales
        self._model, self._codes, self._scales = jax.device_put(on_host, replicated)
        self.reconstructor = navigation_method.make_reconstructor(config, models.compute_dtype(bundle.config))

        over_devices = partitioning.batch_sharding(self.mesh)
        decoder = make_decoder(config, bundle.functions)

        def bind(params):
            def decode(z, x_T):
                z, x_T = (jax.lax.with_sharding_constraint(a, over_devices) for a in (z, x_T))
                return decoder(params, z, x_T)

            return decode

        def step(params, codes, scales, navigation_state):
            return navigation_method.train_step(
                config, bind(params), self.reconstructor, self.image_shape, codes, scales, navigation_state
            )

        def ask(params, codes, scales, navigation_params, batch):
            key = jax.random.fold_in(jax.random.key(config.train.seed + 1), batch)
            return navigation_method.answers(
                navigation_params, config, bind(params), self.reconstructor, self.image_shape, codes, scales, key
            )

        self._step = jax.jit(step, donate_argnums=3, out_shardings=replicated)
        self._ask = jax.jit(ask, out_shardings=replicated)

    def create(self) -> navigation_method.NavigationState:
        """The state before the first step."""
        create = functools.partial(
            navigation_method.create_state, self.config, self.reconstructor, self.latent_dim, self.image_shape
        )
        return jax.jit(create, out_shardings=partitioning.replicated(self.mesh))()

    def step(
        self, navigation_state: navigation_method.NavigationState
    ) -> tuple[navigation_method.NavigationState, dict]:
        """One step; the state given is donated."""
        return self._step(self._model, self._codes, self._scales, navigation_state)

    def lower(self):
        """The step, lowered for compilation; touches no values."""
        shapes = jax.eval_shape(self.create)
        return self._step.lower(self._model, self._codes, self._scales, shapes)

    def measure(self, params: dict, codes: np.ndarray, num_batches: int) -> dict[str, np.ndarray | float]:
        """R on fresh pairs of `codes` [N, d]: `rca`, `shift_error`, and by direction `accuracy` and `count` [K]."""
        hits, counts = np.zeros(self.config.num_directions), np.zeros(self.config.num_directions, int)
        errors = []
        codes = jax.device_put(codes, partitioning.replicated(self.mesh))
        for i in tqdm(range(num_batches), "asking the reconstructor", unit="batch", leave=False, disable=None):
            answers = self._ask(self._model, codes, self._scales, params, i)
            k, right, error = partitioning.to_host(answers)
            np.add.at(counts, k, 1)
            np.add.at(hits, k, right)
            errors.append(error.mean())
        return {
            "rca": float(hits.sum() / counts.sum()),
            "shift_error": float(np.mean(errors)),
            "accuracy": hits / np.maximum(counts, 1),
            "count": counts,
        }

    def fit(self, folder: str) -> Found:
        """Search until `config.train.steps`, going on where `folder` stands.

        Raises:
          ValueError: the folder holds a search with other settings.
          FloatingPointError: a loss or gradient went wrong; the last good checkpoint stays.
          SystemExit: a signal asked the search to stop, and it has saved.
        """
        config, total = self.config, self.config.train.steps
        _claim(folder, config)
        replicated = partitioning.replicated(self.mesh)
        abstract = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=replicated), jax.eval_shape(self.create)
        )
        save_every = max(total // SAVES, config.train.log_every)
        with preemption.StopRequest() as stop, checkpoint.Checkpoints(folder) as checkpoints:
            restored = checkpoints.restore(abstract)
            # Arrays of Orbax may not be donated, hence the copy.
            navigation_state = self.create() if restored is None else jax.jit(lambda s: s)(restored[0])
            start = saved = step = int(navigation_state.step)
            log = report.Report(folder, total, step, enabled=jax.process_index() == 0)
            if restored is not None:
                log.say(f"resuming {folder} at step {step}")
            recorded, block_seconds, compile_seconds = [], [], None
            began = time.perf_counter()
            try:
                while step < total:
                    navigation_state, scalars = self.step(navigation_state)
                    compile_seconds = compile_seconds or time.perf_counter() - began
                    step += 1
                    recorded.append(scalars)
                    log.advance(1)
                    stopping = stop.reached(step)
                    if step % config.train.log_every and step < total and not stopping:
                        continue
                    means = _means(recorded, step)
                    block_seconds.append((time.perf_counter() - began) / len(recorded))
                    recorded = []
                    shown = {name: f"{means[name]:.3f}" for name in ("loss", "accuracy", "shift_error")}
                    log.scalars(step, means, shown)
                    if stopping or step == total or step - saved >= save_every:
                        checkpoints.save(step, config, None, navigation_state, {})
                        saved = step
                    if stopping and step < total:
                        checkpoints.wait()
                        raise SystemExit(stop.exit_code)
                    began = time.perf_counter()
            finally:
                log.close()
        steady = statistics.median(block_seconds[1:]) if len(block_seconds) > 1 else None
        return Found(navigation_state, log.history, step - start, compile_seconds, steady)


def _means(recorded: list[dict], step: int) -> dict[str, float]:
    """The mean of each scalar over the last steps, up to `step`; raises at the first one that isn't finite."""
    rows = partitioning.to_host(recorded)
    for i, row in enumerate(rows):
        wrong = [f"{name}={value}" for name, value in row.items() if not np.isfinite(value)]
        if wrong:
            where = step - len(rows) + 1 + i
            raise FloatingPointError(
                f"step {where} of the search: {', '.join(wrong)}; the checkpoint before it is kept"
            )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _claim(folder: str, config: ConfigDict) -> None:
    """Refuse a folder that holds a search with other settings."""
    if not checkpoint.has_any(folder):
        return
    with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
        saved = checkpoint.config_to_json(checkpoints.config())
    if differing := checkpoint.differing_fields(saved, checkpoint.config_to_json(config)):
        raise ValueError(
            f"{folder} holds a search with other settings; choose another --out, or agree on: " + "; ".join(differing)
        )
