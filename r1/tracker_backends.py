"""The trackers that there are: where else a run's scalars can go. A new one is one class and one line in TRACKERS."""

import contextlib
import io
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from r1.config import RunConfig
from r1.errors import UserError
from r1.files import atomic_file

BUFFERED_STEPS = 30
"""How many steps may be lost with W&B's process: it writes blocks of 32 KiB, and a step of the quickstart has 1.3 KB."""


class Tracker(ABC):
    """A place for scalars. Making one does nothing yet; heavy packages are imported by `begin`."""

    package: ClassVar[str]
    """What has to be installed."""

    def __init__(self, run_dir: Path, config: RunConfig) -> None:
        self._run_dir, self._config = run_dir, config

    @classmethod
    def check(cls) -> None:
        """Raise `UserError` for what is missing besides the package, before anything is started."""
        return

    @abstractmethod
    def begin(self) -> int | None:
        """Open it, or open it anew after the run went back; returns the step from which on it wants the record. None: nothing."""

    @abstractmethod
    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the scalars of one event; NaN where there was no number."""

    def flush(self) -> None:
        """Write what `log` may have kept back; once after a replay, and after each event."""
        return

    @abstractmethod
    def close(self, failed: bool = False) -> None:
        """Finish what `begin` opened; nothing is logged afterwards. failed: the run ended with an error."""


class TensorBoard(Tracker):
    """Scalars under RUN/tensorboard, by tensorboard's own writer: torch's does the same and costs seconds of import.

    Written anew from the record each time: a run that goes back would otherwise show some steps twice.
    """

    package = "tensorboard"
    _writer: Any = None

    def begin(self) -> int | None:
        from tensorboard.summary import Writer

        self.close()
        shutil.rmtree(self._run_dir / "tensorboard", ignore_errors=True)  # an absent folder is as good as an empty one
        self._writer = Writer(str(self._run_dir / "tensorboard"))
        return 0

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, failed: bool = False) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, with its files in RUN/wandb; a resumed run goes on in it.

    The x axis is a metric of ours, `step`: W&B's own step cannot go back, and what is done anew after a rewind or a resume
    would be thrown away. So it is added, as a second point at the same step.
    """

    package = "wandb"
    _run: Any = None
    _last_step = 0

    @classmethod
    def check(cls) -> None:
        import wandb

        # Or wandb.init would ask at the terminal, or fail, when the engines have been started.
        try:
            is_ready = wandb.setup().settings.mode != "online" or wandb.login(prompt=False)
        except wandb.Error as error:
            raise UserError(f"option 'logging.trackers': wandb cannot log in: {in_one_line(error)}") from error
        except ValueError as error:  # pydantic's, of a WANDB_MODE that there is not
            raise UserError(f"option 'logging.trackers': wandb cannot read its settings: {in_one_line(error)}") from error
        if not is_ready:
            raise UserError(
                "option 'logging.trackers': wandb has no API key; run `wandb login`, set WANDB_API_KEY, "
                "set WANDB_MODE=offline, or leave 'wandb' out"
            )

    def begin(self) -> int | None:
        if self._run:
            return None
        import wandb

        id_file, missing_file = self._file("run-id"), self._file("missing-from-step")
        run_id = _read_if_there(id_file)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "r1"),
            name=self._run_dir.name,
            id=run_id,
            resume="allow" if run_id else None,
            dir=str(self._run_dir),
            config=self._config.model_dump(mode="json"),
            # Without it, a run that has lost its network would wait for an upload at its end, for ever.
            # And of a live panel it would keep each frame, 52 KB in 18 s: it has the numbers. Who wants it sets WANDB_CONSOLE.
            settings=wandb.Settings(
                finish_timeout=self._config.deadline_s, **({} if os.environ.get("WANDB_CONSOLE") else {"console": "off"})
            ),
        )
        self._run.define_metric("*", step_metric="step")
        with atomic_file(id_file) as temporary:
            temporary.write_text(self._run.id, encoding="utf-8")
        missing = _read_if_there(missing_file)
        missing_file.unlink(missing_ok=True)
        if run_id is None:
            return 0
        return int(missing) if missing else None

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        with self._noting_what_is_missing():
            self._run.log({"step": step, **scalars})
        self._last_step = step

    @contextlib.contextmanager
    def _noting_what_is_missing(self) -> Iterator[None]:
        """`ray job stop` ends all processes of a job, W&B's own among them: what it has not taken is sent when the run goes on.

        From some steps before, which may have been lost in its buffers: a second point at a step harms nothing.
        """
        try:
            yield
        except Exception:
            if not self._file("missing-from-step").exists():
                with atomic_file(self._file("missing-from-step")) as temporary:
                    temporary.write_text(str(max(self._last_step - BUFFERED_STEPS, 0)), encoding="utf-8")
            raise

    def _file(self, name: str) -> Path:
        return self._run_dir / "wandb" / name

    def close(self, failed: bool = False) -> None:
        if self._run:
            run, self._run = self._run, None
            with self._noting_what_is_missing():
                run.finish(exit_code=int(failed))


class Trackio(Tracker):
    """A local run of trackio, in RUN/trackio or where TRACKIO_DIR says; written anew like TensorBoard's."""

    package = "trackio"
    _run: Any = None

    def begin(self) -> int | None:
        self.close()
        own_folder = self._run_dir / "trackio"
        folder = Path(os.environ.get("TRACKIO_DIR") or own_folder)
        trackio = _trackio_in(folder)
        project = os.environ.get("TRACKIO_PROJECT", "r1")
        before = _read_if_there(own_folder / "run-id")
        if before and (folder / f"{project}.db").is_file():
            for run in trackio.Api().runs(project):
                if run.id == before:
                    run.delete()
        with contextlib.redirect_stdout(io.StringIO()):  # five lines of welcome
            self._run = trackio.init(
                project=project,
                name=self._run_dir.name,
                config=self._config.model_dump(mode="json"),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        with atomic_file(own_folder / "run-id") as temporary:
            temporary.write_text(self._run.id, encoding="utf-8")
        return 0

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self, failed: bool = False) -> None:
        if self._run:
            import trackio

            with contextlib.redirect_stdout(io.StringIO()):
                trackio.finish()
            self._run = None


TRACKERS: Mapping[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def _trackio_in(folder: Path) -> Any:
    """Import trackio with its files in `folder`: it reads TRACKIO_DIR once, when it is imported."""
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = str(folder)
    try:
        import trackio
    finally:
        os.environ.pop("TRACKIO_DIR") if before is None else os.environ.update(TRACKIO_DIR=before)
    if folder != trackio.TRACKIO_DIR:
        raise UserError(f"this process has trackio in {str(trackio.TRACKIO_DIR)!r} already; set TRACKIO_DIR for all its runs")
    return trackio


def _read_if_there(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
