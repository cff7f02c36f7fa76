"""What a run writes down and shows while it goes on: metrics, traces, held-out results, and the summary at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r1.config import RunConfig
from r1.console import RunConsole
from r1.evaluate import evaluate, sample_statistics
from r1.files import written
from r1.loop import Observer, Trainer
from r1.metrics import MetricsLogger, read_metrics
from r1.prompt_mix import HeldoutPrompts
from r1.run_mirror import RunMirror
from r1.run_output import RunOutput
from r1.run_place import RunPlace
from r1.runtime.weight_sync import WeightSync
from r1.runtime.whereabouts import Roster
from r1.summary import build_summary, write_summary
from r1.trace_choice import TraceChoice
from r1.traces import remove_traces_after, write_traces
from r1.types import Progress, ScoredGroup, StepReport
from tasks.base import Split


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The run's own account of itself, and where it goes."""

    config: RunConfig
    heldout: HeldoutPrompts | None
    """None: nothing is evaluated."""
    place: RunPlace
    output: RunOutput
    started_s: float
    """time.time() when this process began."""
    logger: MetricsLogger
    mirror: RunMirror
    weights: WeightSync
    """Its metrics are those of the last sync."""
    roster: Roster

    def observer(self, trainer: Trainer, shown: RunConsole) -> Observer:
        """What the loop tells of its steps, written and shown."""

        def on_groups(step: int, groups: Sequence[ScoredGroup]) -> None:
            self._keep_traces(step, groups)
            shown.show_groups(step, groups)

        def evaluate_heldout(step: int, policy_version: int) -> None:
            if self.heldout is None:
                return
            shown.begin("held-out evaluation")
            batches = self.heldout.batches(step, policy_version)
            metrics, groups = evaluate(batches, trainer.sampler, trainer.scorer, trainer.correctness)
            self._keep_traces(step, groups, "heldout")
            statistics = sample_statistics(groups, trainer.correctness, self.config.scoring.deadline_s)
            shown.show(self.logger.log_heldout(step, {**metrics, **statistics}, policy_version))
            self.mirror.wake()

        def log_step(report: StepReport) -> None:
            metrics = {**report.metrics, **self.weights.metrics, **self.output.faults.counts()}
            shown.show(self.logger.log_step(replace(report, metrics=metrics)))
            self.roster.look()
            self.mirror.wake()

        def rewind(progress: Progress) -> None:
            self.rewind(progress.step)
            shown.rewind(progress.step)

        return Observer(on_groups=on_groups, on_step=log_step, on_rewind=rewind, evaluate=evaluate_heldout)

    def rewind(self, last_step: int) -> None:
        """Drop what was written of later steps: they are going to be done again."""
        self.logger.rewind(last_step)
        remove_traces_after(self.place.folder, last_step)
        self.mirror.rewind(last_step)

    def summarize(self, ended: str, errors: Sequence[str]) -> dict[str, object]:
        """Write summary.json from metrics.jsonl, so that it covers the steps before a resume as well.

        ended: how, in words. errors: what ended it, if anything went wrong.
        """
        events = read_metrics(self.place.folder)
        reports = [
            StepReport(step=e["step"], policy_version=e["policy_version"], metrics=e["metrics"], timings_s=e["timings_s"])
            for e in events
            if e["kind"] == "step"
        ]
        heldout: Mapping[int, Mapping[str, float]] = {e["step"]: e["metrics"] for e in events if e["kind"] == "heldout"}
        after = heldout.get(max(heldout)) if heldout and max(heldout) > 0 else None
        faults = [*(fault.text for fault in self.output.faults.faults), *errors]
        summary = build_summary(self.config, heldout.get(0), after, reports, faults, self.started_s, ended=ended)
        summary["workers"] = self.roster.record()
        with written("summary.json"):
            write_summary(self.place.folder, summary)
        return summary

    def _keep_traces(self, step: int, groups: Sequence[ScoredGroup], split: Split = "train") -> None:
        config, choice = self.config, TraceChoice.parse(self.config.logging.traces)
        with written(f"the traces of step {step}"):
            write_traces(
                self.place.folder, step, groups, template=config.task.template, split=split, choice=choice, seed=config.seed
            )
