"""Time a training step of Diff-AE in PyTorch, beside that of this package: python -m tests.torch_step --config=celeba.

The nets are those of tests/reference_modules.py at the sizes of the config. The step is L_diff on random images, Adam
and a moving average, in bfloat16 with channels last; on a GPU it is compiled. Needs the extra `torch`.
"""

import json
import statistics
import time

import numpy as np
import torch
from absl import flags

from cldis_jax import cli
from cldis_jax.method import diffusion
from cldis_jax.runtime import report
from tests.reference_modules import DiffAE

WARM_UP = 2

CONFIG = cli.define_config()
STEPS = flags.DEFINE_integer("steps", 20, "steps to time, after the first two", lower_bound=2)
OUT = flags.DEFINE_string("out", None, "also write the JSON to this file")


def make_step(config, device):
    """A function that trains on one random batch and returns the loss []."""
    torch.manual_seed(0)
    net = DiffAE(config).to(device, memory_format=torch.channels_last).train()
    parameters = list(net.parameters())
    ema = [parameter.detach().clone() for parameter in parameters]
    adam = torch.optim.Adam(parameters, config.train.learning_rate, fused=device == "cuda")
    schedule = diffusion.schedule_of(config)
    signal, noise = (
        torch.tensor(np.asarray(a), dtype=torch.float32, device=device) for a in (schedule.signal, schedule.noise)
    )
    size, data = config.data.image_size, config.data
    x0 = torch.rand(data.batch_size, data.channels, size, size, device=device) * 2 - 1
    x0 = x0.to(memory_format=torch.channels_last)

    def loss(x0, t, eps):
        with torch.autocast(device, torch.bfloat16):
            x_t = signal[t][:, None, None, None] * x0 + noise[t][:, None, None, None] * eps
            return torch.nn.functional.mse_loss(net(x_t, t, net.encoder(x0)).float(), eps)

    if device == "cuda":
        loss = torch.compile(loss)

    def step():
        t = torch.randint(0, len(signal), (len(x0),), device=device)
        value = loss(x0, t, torch.randn_like(x0))
        adam.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.train.clip_norm)
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(ema, parameters, 1 - config.train.ema_decay)
        return value

    return step


def benchmark(config, num_steps):
    """`device`, `seconds_per_step`, `compile_seconds`, `peak_bytes` (0 on CPU) and the last `loss`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = make_step(config, device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = []
    for _ in range(WARM_UP + num_steps):
        began = time.perf_counter()
        loss = step()
        wait()
        seconds.append(time.perf_counter() - began)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "seconds_per_step": statistics.median(seconds[WARM_UP:]),
        "compile_seconds": sum(seconds[:WARM_UP]),
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        "loss": float(loss),
    }


def main() -> None:
    cli.require(CONFIG)
    results = benchmark(CONFIG.value, STEPS.value)
    if OUT.value:
        report.write_json(OUT.value, results)
    print(json.dumps(results))


if __name__ == "__main__":
    cli.run(main)
