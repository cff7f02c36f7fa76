"""The numbers of a step that can be read off its scored groups, for training and held-out problems alike."""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean, stdev

from r1.types import ScoredGroup, StepSamples

Correctness = str | Mapping[str, str]
"""The reward that tells right from wrong; by task, where there are several."""


def step_metrics(sampled: StepSamples, policy_version: int, correctness: Correctness) -> dict[str, float]:
    """`rollout_metrics` over all that a step has sampled, whether it is learnt from or not: a choice would flatter the policy.

    staleness, staleness_max: versions by which the policy that began a completion was behind `policy_version`, the learner's.
    sampling_rounds: above 1 where the step sampled on.
    """
    groups = [*sampled.groups, *sampled.others]
    staleness = [policy_version - completion.policy_version for group in groups for completion in group.completions]
    return rollout_metrics(groups, correctness) | {
        "staleness": _mean(staleness),
        "staleness_max": float(max(staleness, default=0)),
        "sampling_rounds": float(sampled.num_rounds),
    }


def rollout_metrics(groups: Sequence[ScoredGroup], correctness: Correctness) -> dict[str, float]:
    """Means over all completions, and shares of groups and completions.

    reward, reward/<name>, accuracy (the reward named by `correctness`): over the completions that have one; NaN where none
    has, since a 0 would look like a policy that collapsed.
    accuracy/<task>: the same, where the groups are of several tasks.
    reward_std: sample standard deviation of the reward over all of them, whatever their group.
    zero_variance_share: groups whose known rewards are all equal; they have no advantage and teach nothing.
    unjudged_share: completions without a reward, since a reward function could not judge them or failed.
    reward_errors/<name>, reward_timeouts/<name>: how often a reward failed, timeouts included; timeouts alone.
    duplicate_share: completions that repeat the tokens of an earlier sibling.
    """
    completions = [completion for group in groups for completion in group.completions]
    scores = [score for group in groups for score in group.scores]
    lengths = [len(completion.token_ids) for completion in completions]
    known = [score.reward for score in scores if score.reward is not None]
    metrics = {"reward": _mean(known, nan), "reward_std": stdev(known) if len(known) > 1 else 0.0}
    for name in dict.fromkeys(name for score in scores for name in score.breakdown):
        metrics[f"reward/{name}"] = _mean([score.breakdown.get(name) for score in scores], nan)
        failures = [score.failures[name] for score in scores if name in score.failures]
        metrics[f"reward_errors/{name}"] = float(len(failures))
        metrics[f"reward_timeouts/{name}"] = float(failures.count("timeout"))
    correct = {task: _correct([group for group in groups if group.prompt.task == task], correctness) for task in _tasks(groups)}
    metrics["accuracy"] = _mean([value for values in correct.values() for value in values], nan)
    if len(correct) > 1:
        metrics |= {f"accuracy/{task}": _mean(values, nan) for task, values in correct.items()}
    return metrics | {
        "completion_tokens": _mean(lengths),
        "completion_tokens_max": float(max(lengths, default=0)),
        "truncated_share": _mean([completion.finish_reason == "length" for completion in completions]),
        "zero_variance_share": _mean([len(_known_rewards(group)) < 2 for group in groups]),
        "duplicate_share": _mean([_is_repeat(group, i) for group in groups for i in range(len(group.completions))]),
        "unjudged_share": _mean([score.reward is None for score in scores]),
        "score_error_share": _mean([score.error is not None for score in scores]),
        "num_prompts": float(len(groups)),
        "num_completions": float(len(completions)),
        "num_loss_tokens": float(sum(len(c.token_ids) for group in groups if group.is_learnt for c in group.completions)),
    }


def _tasks(groups: Sequence[ScoredGroup]) -> list[str]:
    return sorted({group.prompt.task for group in groups})


def _correct(groups: Sequence[ScoredGroup], correctness: Correctness) -> list[float | None]:
    """The correctness of each completion; None where it could not be judged."""
    return [
        score.breakdown.get(correctness if isinstance(correctness, str) else correctness[group.prompt.task])
        for group in groups
        for score in group.scores
    ]


def _known_rewards(group: ScoredGroup) -> set[float]:
    return {score.reward for score in group.scores if score.reward is not None}


def _is_repeat(group: ScoredGroup, index: int) -> bool:
    token_ids = group.completions[index].token_ids
    return any(earlier.token_ids == token_ids for earlier in group.completions[:index])


def _mean(values: Sequence[float | None], of_none: float = 0.0) -> float:
    """The mean of what is not None; `of_none` when nothing is left."""
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else of_none
