"""When the samples of a run look wrong: spread, form, scores, length. A function for each heading of docs/tuning.md."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Any

from r1.metrics import FORMAT_KEY
from r1.run_history import RECENT, Rule, RunHistory, known_values, one_of, percent
from r1.scoring_rules import MAX_ERROR_RATE

# Then most of what was sampled teaches nothing. DAPO (arXiv:2503.14476, section 3.2) replaces every such group.
MAX_NO_SPREAD = 0.5
# One reward in five then judges the limit and not the answer: reward noise, as DAPO's section 3.4 calls it. The figure is ours.
MAX_TRUNCATED = 0.2
FORM_ALONE, NO_ACCURACY = 0.9, 0.02
# More than the noise of 10 steps of 16 prompts; so is the next one, two standard errors of a reward over 10 x 256 completions.
FORMAT_FALL = 0.1
# So much is worth a word whatever the reward does.
FORMAT_LOST = 0.3
REWARD_RISE = 0.02
MAX_UNJUDGED = 0.05
# The quickstart ends at 0.83 and still learns: its additions have one way to be worked out.
MAX_DUPLICATES = 0.9
# Two completions of 10 nats would agree once in 22,000 times, were all ways equally likely. The quickstart begins with 6.
MANY_DUPLICATES, NATS_APART = 0.5, 10.0
LENGTH_FACTOR, LENGTH_STEPS, LENGTH_MEAN = 2.0, 20, 5
# Of an evaluation: then of 100 simulated runs of a policy that stays what it is, with an independent error in each of their 30
# evaluations, under 5 % are warned. Test by test: the more evaluations, the larger is the best of them by chance.
FALSE_ALARMS = 0.01
# Means over 10 steps of 16 prompts of a hard task differ by 0.05 for the problems alone (Countdown, 0.17 on average).
GAINED, LOST_AGAIN = 0.1, 0.6


def no_spread(run: RunHistory) -> str | None:
    share, accuracy = run.mean("zero_variance_share"), run.mean("accuracy")
    if share is None or accuracy is None or share <= MAX_NO_SPREAD:
        return None
    # The other groups have an accuracy between 0 and 1, which bounds what these have; the middle of it.
    all_right = (max(0.0, accuracy - (1 - share)) + min(share, accuracy)) / 2
    all_wrong = share - all_right
    cause = "too easy" if all_right > 2 * all_wrong else "too hard" if all_wrong > 2 * all_right else "too hard or too easy"
    config = run.config
    chosen = "take other problems" if config and config.task.difficulty else "choose problems by task.difficulty"
    resample = None if config and config.algorithm.zero_variance == "resample" else "set algorithm.zero_variance=resample"
    return (
        f"{percent(share)} of the groups had no spread (all right or all wrong: about {percent(all_right)} / "
        f"{percent(all_wrong)}) and teach nothing: the task is {cause}; {one_of(chosen, resample)}"
    )


def truncated(run: RunHistory) -> str | None:
    share = run.mean("truncated_share")
    if share is None or share < MAX_TRUNCATED:
        return None
    config = run.config
    is_filtered = config is not None and config.algorithm.overlong_filtering
    filtering = None if is_filtered else "try algorithm.overlong_filtering=true"
    has_reward = config is not None and "soft_overlong" in (config.task.rewards or ())
    punished = None if has_reward else "add the reward soft_overlong"
    limit = f" at {run.config.rollout.max_completion_tokens:,} tokens" if run.config else ""
    return (
        f"{percent(share)} of the completions were cut off{limit}: their rewards judge the limit, not the answer; "
        f"{one_of('raise rollout.max_completion_tokens', filtering, punished)}"
    )


def reasoning_format(run: RunHistory) -> str | None:
    now, before = run.mean(FORMAT_KEY), run.mean(FORMAT_KEY, before=RECENT)
    accuracy, rise = run.mean("accuracy"), run.rise("reward", RECENT, RECENT)
    if now is None:
        return None
    if accuracy is not None and now >= FORM_ALONE and accuracy <= NO_ACCURACY and len(run.steps) >= RECENT:
        return (
            f"format is {now:.2f} and accuracy {accuracy:.2f}: the form alone is being learnt; look at the samples, give "
            "reasoning_format less weight in task.rewards, take easier problems"
        )
    is_gated = run.config is None or run.config.scoring.format_gates_accuracy
    remedy = "look at the samples" if is_gated else "look at the samples, set scoring.format_gates_accuracy=true"
    if before is not None and rise is not None and before - now >= FORMAT_FALL and rise >= REWARD_RISE:
        return (
            f"format fell from {before:.2f} to {now:.2f} in {RECENT} steps while the reward rose by {rise:.2f}: something pays "
            f"better without it; {remedy}"
        )
    return _slow_fall_of_format(run, now, remedy)


def _slow_fall_of_format(run: RunHistory, now: float, remedy: str) -> str | None:
    means, reward = run.windows(FORMAT_KEY), run.mean("reward")
    best = max((mean for mean in means if mean is not None), default=None)
    if best is None:
        return None
    index = means.index(best)
    then = run.windows("reward")[index]
    rise = 0.0 if reward is None or then is None else reward - then
    if best - now < FORMAT_LOST and (best - now < FORMAT_FALL or rise < REWARD_RISE):
        return None
    return (
        f"format fell from {best:.2f} (around step {run.step_of_window(index)}) to {now:.2f}, the reward by {rise:+.2f}: the "
        f"form is being lost little by little; {remedy}"
    )


def unjudged(run: RunHistory) -> str | None:
    failed, unknown = run.mean("score_error_share"), run.mean("unjudged_share")
    if failed is not None and failed > MAX_ERROR_RATE / 2:
        prefix = "reward_errors/"
        names = [name for name in run.metrics if name.startswith(prefix)]
        worst = max(names, key=lambda name: sum(run.values(name, RECENT)), default="a reward").removeprefix(prefix)
        return (
            f"{percent(failed, 1)} of the completions could not be scored, mostly for errors or timeouts of {worst}: above "
            f"{percent(MAX_ERROR_RATE)} in a step the run stops; read the errors with r1 traces show, see scoring.deadline_s"
        )
    if unknown is not None and unknown > MAX_UNJUDGED:
        return (
            f"{percent(unknown)} of the completions have no reward, since a reward function could not judge them: they were "
            "sampled in vain; look at the gold answers of their problems"
        )
    return None


def duplicates(run: RunHistory) -> str | None:
    share, entropy, tokens = run.mean("duplicate_share"), run.mean("entropy"), run.mean("completion_tokens")
    if share is None:
        return None
    nats = None if entropy is None or tokens is None else entropy * tokens
    if nats is not None and nats >= NATS_APART and share >= MANY_DUPLICATES:
        return (
            f"{percent(share)} of the completions repeat a sibling token by token, though {nats:.0f} nats of entropy leave room "
            "for others: do siblings share a seed, or have some problems a single answer?"
        )
    if share >= MAX_DUPLICATES:
        return (
            f"{percent(share)} of the completions repeat a sibling token by token: a group has little to compare; raise "
            "rollout.temperature, lower rollout.group_size, or take harder problems"
        )
    return None


def length(run: RunHistory) -> str | None:
    now = run.mean("completion_tokens", LENGTH_MEAN)
    then = run.mean("completion_tokens", LENGTH_MEAN, before=LENGTH_STEPS)
    rise = run.rise("reward", LENGTH_MEAN, LENGTH_STEPS)
    if not now:
        return None
    place = f"in {LENGTH_STEPS} steps"
    if not _is_other_length(now, then, rise):
        now, then, rise, place = _slow_change_of_length(run)
    if now is None or then is None:
        return None
    figure = f"completions went from {then:.0f} to {now:.0f} tokens {place}, the reward by {rise:+.2f}"
    if now < then:
        return f"{figure}: the thinking is being lost; look at the samples, and at rewards that pay for being short"
    spares_long = run.config is None or run.config.algorithm.aggregation == "sequence_mean"
    preset = "algorithm=dr_grpo, which does not spare long wrong answers" if spares_long else None
    return f"{figure}: longer is not better; try {one_of(preset, 'the reward soft_overlong')}"


def _is_other_length(now: float, then: float | None, rise: float | None) -> bool:
    # Growth that pays is what R1-Zero is about, and a base model that stops rambling gets shorter and better.
    if not then or rise is None or rise >= REWARD_RISE:
        return False
    return not 1 / LENGTH_FACTOR < now / then < LENGTH_FACTOR


def _slow_change_of_length(run: RunHistory) -> tuple[float | None, float | None, float | None, str]:
    """Against the earliest window that the length has left and the reward has not: length now, then, the reward's rise, when."""
    now, reward = run.mean("completion_tokens"), run.mean("reward")
    for index, (then, earned) in enumerate(zip(run.windows("completion_tokens"), run.windows("reward"), strict=True)):
        rise = None if reward is None or earned is None else reward - earned
        if now is not None and _is_other_length(now, then, rise):
            return now, then, rise, f"since step {run.step_of_window(index)}"
    return None, None, None, ""


def held_out(run: RunHistory) -> str | None:
    names = [name for name in (run.heldout[-1]["metrics"] if run.heldout else {}) if name.startswith("accuracy_error")]
    for error_name in names:
        name = error_name.replace("accuracy_error", "accuracy")  # of several tasks, each has its own
        known = [event for event in run.heldout if event["metrics"].get(name) is not None]
        best = _best_before_a_fall(known, name, error_name, len(names))
        # Twice in a row: one unlucky evaluation is no fall.
        if best is None or _best_before_a_fall(known[:-1], name, error_name, len(names)) is None:
            continue
        step = max(best[1]["step"], RECENT)  # of step 0: the run's first steps
        now = run.mean("reward")
        then = known_values([event for event in run.steps if step - RECENT < event["step"] <= step], "reward")
        if now is not None and then and now - fmean(then) >= REWARD_RISE:
            before, after = (_mean_of(pair, name) for pair in (best, known[-2:]))
            return (
                f"held-out {name} fell from {before:.2f} (steps {best[0]['step']} and {best[1]['step']}) to {after:.2f}, the "
                "training reward rose: problems are learnt by heart or a reward is cheated; take more problems, and the best "
                "checkpoint"
            )
    return None


def _best_before_a_fall(
    evaluations: Sequence[Mapping[str, Any]], name: str, error_name: str, num_names: int
) -> Sequence[Mapping[str, Any]] | None:
    """The best two neighbours, if the last two are worse by more than the best of so many would be by chance."""
    # Without the pairs that hold one of the last two.
    pairs = [evaluations[start : start + 2] for start in range(len(evaluations) - 3)]
    if not pairs:
        return None
    best, last = max(pairs, key=lambda pair: _mean_of(pair, name)), evaluations[-2:]
    # Each error is half of a 95 % interval, and of a mean of two there is half of the square. This is the difference's, were
    # the problems drawn anew, at a level that is divided among all that the best was chosen from.
    errors = [event["metrics"].get(error_name) or 0.0 for event in (*best, *last)]
    level = FALSE_ALARMS / (len(pairs) * num_names)
    doubt = sum(error**2 for error in errors) ** 0.5 / 2 * NormalDist().inv_cdf(1 - level) / NormalDist().inv_cdf(0.975)
    return best if _mean_of(best, name) - _mean_of(last, name) > doubt else None


def _mean_of(events: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(event["metrics"][name] for event in events)


def collapse(run: RunHistory) -> str | None:
    now, means = run.mean("accuracy"), run.windows("accuracy")
    known = [mean for mean in means if mean is not None]
    # Easy problems first: accuracy falls as they get harder.
    gets_harder = run.config is not None and (run.config.task.difficulty or "").startswith("easy_first")
    if now is None or not known or gets_harder:
        return None
    first, best = known[0], max(known)
    is_lost = best - first >= GAINED and best - now >= LOST_AGAIN * (best - first)
    is_below_the_start = first - now > GAINED and now < first / 2
    if not is_lost and not is_below_the_start:
        return None
    lost = "most of what it had learnt" if is_lost else "more than half of what it could at the start"
    return (
        f"accuracy fell from {best:.2f} (around step {run.step_of_window(means.index(best))}) to {now:.2f}: the policy has lost "
        f"{lost}; go on from an earlier checkpoint with a lower learner.learning_rate"
    )


SAMPLE_RULES: Mapping[str, Rule] = {
    "no-spread": no_spread,
    "truncated": truncated,
    "format": reasoning_format,
    "unjudged": unjudged,
    "duplicates": duplicates,
    "length": length,
    "held-out": held_out,
    "collapse": collapse,
}
"""Heading of docs/tuning.md -> its rule."""
