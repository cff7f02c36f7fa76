"""Which prompts a step gets, and which are held out: several tasks side by side, each with a walk of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from r1.prompt_stream import PromptStream
from r1.seeds import derive_seed
from r1.types import Progress, Prompt, PromptBatch

CYCLE = 1000
"""Draws after which the tasks' shares repeat: they are exact to a thousandth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedTask:
    """A task that is trained on, alone or in a mixture."""

    name: str
    num_problems: int
    """That are not too long."""
    share: float = 1.0
    """Of all prompts that are drawn."""


@dataclass(kw_only=True)
class PromptMix:
    """The training prompts: tasks take turns by their weights, as evenly as whole prompts can.

    A function of the number of prompts that were drawn before, as `PromptStream` is. With one task, its walk.
    """

    streams: Sequence[PromptStream]
    weights: Sequence[float]
    """[tasks] above 0; only their ratios count."""
    seed: int
    """The run's; sample seeds are made of it."""

    def __post_init__(self) -> None:
        self._turns = take_turns(self.weights)
        self._num_per_cycle = [self._turns.count(task) for task in range(len(self.streams))]
        # [CYCLE] how often the task whose turn it is had its turn before in this cycle
        self._num_before = [self._turns[:i].count(task) for i, task in enumerate(self._turns)]

    @property
    def tasks(self) -> list[TrainedTask]:
        """What there is of each task, and how much of it is drawn."""
        shares = [count / len(self._turns) for count in self._num_per_cycle]
        return [
            TrainedTask(name=stream.prompts[0].task, num_problems=len(stream.prompts), share=share)
            for stream, share in zip(self.streams, shares, strict=True)
        ]

    def batch(self, progress: Progress, *, num_prompts: int, group_size: int) -> PromptBatch:
        """The prompts of the step after `progress`: the next `num_prompts`."""
        first = progress.num_prompts_drawn
        chosen = [self._drawn(index) for index in range(first, first + num_prompts)]
        return _batch(chosen, progress.step + 1, progress.policy_version, group_size, self.seed)

    def _drawn(self, index: int) -> Prompt:
        cycle, turn = divmod(index, len(self._turns))
        task = self._turns[turn]
        return self.streams[task].drawn(cycle * self._num_per_cycle[task] + self._num_before[turn])


def take_turns(weights: Sequence[float]) -> list[int]:
    """Whose turn it is, draw by draw: each task's turns lie evenly, and as near to its share as whole turns come.

    >>> take_turns([1.0])[:4], take_turns([2.0, 1.0])[:6]
    ([0, 0, 0, 0], [0, 1, 0, 0, 1, 0])
    """
    total = sum(weights)
    ends = [round(CYCLE * end / total) for end in accumulate(weights)]
    counts = [max(1, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    # The middle of each of a task's turns, if all of its turns were spread over the cycle.
    middles = [((turn + 0.5) / count, task) for task, count in enumerate(counts) for turn in range(count)]
    return [task for _, task in sorted(middles)]


@dataclass(kw_only=True)
class HeldoutPrompts:
    """The held-out prompts of each task: the first of each stream, always the same ones, with seeds of their own."""

    streams: Sequence[PromptStream]
    num_completions: int
    """Of each task: one a problem, or several where it has fewer problems."""
    seed: int

    def batches(self, step: int, policy_version: int) -> list[PromptBatch]:
        """One batch a task; only its group_ids and rounds tell them apart."""
        made = []
        first_group_id = 0
        for number, (chosen, num_samples) in enumerate(self._chosen()):
            batch = _batch(chosen, step, policy_version, num_samples, derive_seed(self.seed, "heldout"))
            prompts = tuple(replace(prompt, group_id=prompt.group_id + first_group_id) for prompt in batch.prompts)
            made.append(replace(batch, prompts=prompts, round=number))
            first_group_id += len(prompts)
        return made

    def describe(self) -> str:
        """For people: "aime24 30 x 8, gsm8k 256 x 1"."""
        return ", ".join(f"{prompts[0].task} {len(prompts)} x {num_samples}" for prompts, num_samples in self._chosen())

    def _chosen(self) -> Iterator[tuple[Sequence[Prompt], int]]:
        for stream in self.streams:
            chosen = stream.prompts[: self.num_completions]
            yield chosen, max(1, self.num_completions // len(chosen))


def _batch(chosen: Sequence[Prompt], step: int, policy_version: int, group_size: int, seed: int) -> PromptBatch:
    prompts = tuple(replace(prompt, group_id=group_id) for group_id, prompt in enumerate(chosen))
    return PromptBatch(step=step, prompts=prompts, group_size=group_size, policy_version=policy_version, seed=seed)
