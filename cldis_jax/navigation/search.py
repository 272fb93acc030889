"""The search for directions on a trained model: the compiled step, the loop, and the test on fresh pairs."""

import functools
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cldis_jax import api, models
from cldis_jax.navigation import method
from cldis_jax.navigation.decoders import make_decoder
from cldis_jax.runtime import checkpoint, config_json, lock, partitioning, preemption, report
from cldis_jax.runtime.errors import NonFiniteError

SAVES = 20  # checkpoints over the whole search


class Found(NamedTuple):
    """The result of a search."""

    state: method.NavigationState
    history: list[dict[str, float]]  # the learning curve
    steps: int  # of this call
    compile_seconds: float | None  # until the first step was dispatched; None if no step was left
    seconds_per_step: float | None  # median over logged blocks without the first; None for a single block


class Search:
    """One search: the compiled training step and test step, over the config's mesh."""

    def __init__(self, config: ConfigDict, bundle: api.Bundle, codes: np.ndarray):
        self.config, self.latent_dim, self.image_shape = config, codes.shape[1], bundle.image_shape
        self.mesh = partitioning.make_mesh(config)
        self.scales = codes.std(axis=0)
        given = bundle.ema.params, codes, self.scales
        self._model, self._codes, self._scales = partitioning.replicate(self.mesh, given)
        self.reconstructor = method.make_reconstructor(config, models.compute_dtype(bundle.config))

        over_devices = partitioning.batch_sharding(self.mesh)
        decoder = make_decoder(config, bundle.functions)

        def bind(params):
            def decode(z, x_T):
                z, x_T = (jax.lax.with_sharding_constraint(a, over_devices) for a in (z, x_T))
                return decoder(params, z, x_T)

            return decode

        def step(params, codes, scales, navigation_state):
            return method.train_step(
                config, bind(params), self.reconstructor, self.image_shape, codes, scales, navigation_state
            )

        def test(params, codes, scales, navigation_params, batch):
            key = jax.random.fold_in(jax.random.key(config.train.seed + 1), batch)
            return method.test_step(
                navigation_params, config, bind(params), self.reconstructor, self.image_shape, codes, scales, key
            )

        replicated = partitioning.replicated(self.mesh)
        self._step = jax.jit(step, donate_argnums=3, out_shardings=replicated)
        self._test = jax.jit(test, out_shardings=replicated)

    def create(self) -> method.NavigationState:
        """The state before the first step."""
        create = functools.partial(
            method.create_state, self.config, self.reconstructor, self.latent_dim, self.image_shape
        )
        return jax.jit(create, out_shardings=partitioning.replicated(self.mesh))()

    def step(self, navigation_state: method.NavigationState) -> tuple[method.NavigationState, dict]:
        """One step; the state given is donated."""
        return self._step(self._model, self._codes, self._scales, navigation_state)

    def lower(self):
        """The step, lowered for compilation, from shapes alone."""
        shapes = jax.eval_shape(self.create)
        return self._step.lower(self._model, self._codes, self._scales, shapes)

    def measure(self, params: dict, codes: np.ndarray, num_batches: int) -> dict[str, np.ndarray | float]:
        """R on fresh pairs of `codes` [N, d]: `rca`, `shift_error`, and by direction `accuracy` and `count` [K]."""
        hits, counts = np.zeros(self.config.num_directions), np.zeros(self.config.num_directions, int)
        errors = []
        codes = jax.device_put(codes, partitioning.replicated(self.mesh))
        for i in tqdm(range(num_batches), "testing the reconstructor", unit="batch", leave=False, disable=None):
            tested = self._test(self._model, codes, self._scales, params, i)
            k, right, error = partitioning.to_host(tested)
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
        """Search until `config.train.steps`, from the newest checkpoint in `folder`, if any.

        Raises:
          CheckpointError: the folder holds a search of another config.
          LockError: another process searches there.
          NonFiniteError: a loss or gradient is not finite; the last good checkpoint is kept.
          SystemExit: a signal asked the search to stop, and it has saved.
        """
        checkpoint.check_path(folder)
        with lock.held(folder):
            return self._fit(folder)

    def _fit(self, folder: str) -> Found:
        config, total = self.config, self.config.train.steps
        checkpoint.claim(folder, config_json.config_to_json(config), "a search")
        replicated = partitioning.replicated(self.mesh)
        abstract = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=replicated), jax.eval_shape(self.create)
        )
        save_every = max(total // SAVES, config.train.log_every)
        with preemption.StopRequest() as stop, checkpoint.Checkpoints(folder) as checkpoints:
            restored = checkpoints.restore(abstract)
            # Arrays restored by Orbax may not be donated, therefore they are copied.
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
            raise NonFiniteError(f"step {where} of the search: {', '.join(wrong)}; the checkpoint before it is kept")
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
