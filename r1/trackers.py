"""Trackers: where else a run's scalars go, besides metrics.jsonl."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from r1.config import RunConfig
from r1.errors import UserError


class Tracker(Protocol):
    """Takes the scalars of one event."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard(Tracker):
    """Scalars under RUN/tensorboard, by tensorboard's own writer: torch's does the same and costs seconds of import.

    Begins with an empty folder.
    """

    def __init__(self, run_dir: Path) -> None:
        from tensorboard.summary import Writer

        shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)  # an absent folder is as good as an empty one
        self._writer = Writer(str(run_dir / "tensorboard"))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases(Tracker):
    """Scalars to Weights & Biases."""

    def __init__(self, run_dir: Path, config: RunConfig) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "option 'logging.wandb': the package wandb is not installed; pip install 'r1[wandb]' or set logging.wandb=false"
            ) from error
        self._run = wandb.init(project="r1", name=config.name, dir=str(run_dir), config=config.model_dump())

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()
