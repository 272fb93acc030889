"""Scalars and pictures of a run in Weights & Biases. The only file that imports it."""

import importlib.util
import uuid
from typing import Any

import numpy as np
from etils import epath

from cldis_jax.runtime.files import atomic

ID_FILE = "wandb_id.txt"


def is_installed() -> bool:
    return importlib.util.find_spec("wandb") is not None


class WandbLog:
    """One run of a project. WANDB_MODE=offline keeps it in WORKDIR/wandb, from where `wandb sync` sends it.

    A resumed run continues the same one: its name is in WORKDIR/wandb_id.txt.
    """

    def __init__(self, workdir: epath.PathLike, project: str, config: dict[str, Any]):
        import wandb

        self._wandb, workdir = wandb, epath.Path(workdir)
        local = None if "://" in str(workdir) else str(workdir)
        self._run = wandb.init(
            project=project, id=_run_id(workdir), name=workdir.name, dir=local, config=config, resume="allow"
        )

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A uint8 picture [H, W, 3]."""
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _run_id(workdir: epath.Path) -> str:
    """The name of the workdir's run, the same one whenever it resumes."""
    file = workdir / ID_FILE
    if file.exists():
        return file.read_text().strip()
    name = uuid.uuid4().hex[:8]
    with atomic(file, "w") as opened:
        opened.write(name + "\n")
    return name
