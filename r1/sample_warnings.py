"""When the samples of a run look wrong: spread, form, scores, length. A function for each heading of docs/tuning.md."""

from collections.abc import Mapping
from statistics import fmean

from r1.metrics import FORMAT_KEY
from r1.run_history import RECENT, Rule, RunHistory, known_values, percent
from r1.scoring_rules import MAX_ERROR_RATE

# Then most of what was sampled teaches nothing. DAPO (arXiv:2503.14476, section 3.2) replaces every such group.
MAX_NO_SPREAD = 0.5
# One reward in five then judges the limit and not the answer: reward noise, as DAPO's section 3.4 calls it. The figure is ours.
MAX_TRUNCATED = 0.2
FORM_ALONE, NO_ACCURACY = 0.9, 0.02
# More than the noise of 10 steps of 16 prompts; so is the next one, two standard errors of a reward over 10 x 256 completions.
FORMAT_FALL = 0.1
REWARD_RISE = 0.02
MAX_UNJUDGED = 0.05
# The quickstart ends at 0.83 and still learns: its additions have one way to be worked out.
MAX_DUPLICATES = 0.9
# Two completions of 10 nats would agree once in 22,000 times, were all ways equally likely. The quickstart begins with 6.
MANY_DUPLICATES, NATS_APART = 0.5, 10.0
LENGTH_FACTOR, LENGTH_STEPS, LENGTH_MEAN = 2.0, 20, 5
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
    return (
        f"{percent(share)} of the groups had no spread (all right or all wrong: about {percent(all_right)} / "
        f"{percent(all_wrong)}) and teach nothing: the task is {cause}; choose problems by task.difficulty, or set "
        "algorithm.zero_variance=resample"
    )


def truncated(run: RunHistory) -> str | None:
    share = run.mean("truncated_share")
    if share is None or share < MAX_TRUNCATED:
        return None
    limit = f" at {run.config.rollout.max_completion_tokens:,} tokens" if run.config else ""
    return (
        f"{percent(share)} of the completions were cut off{limit}: their rewards judge the limit, not the answer; raise "
        "rollout.max_completion_tokens, or try algorithm.overlong_filtering or the reward soft_overlong"
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
    if before is not None and rise is not None and before - now >= FORMAT_FALL and rise >= REWARD_RISE:
        return (
            f"format fell from {before:.2f} to {now:.2f} in {RECENT} steps while the reward rose by {rise:.2f}: something pays "
            "better without it; look at the samples, keep scoring.format_gates_accuracy on"
        )
    return None


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
    # Growth that pays is what R1-Zero is about, and a base model that stops rambling gets shorter and better.
    if not now or not then or rise is None or rise >= REWARD_RISE or 1 / LENGTH_FACTOR < now / then < LENGTH_FACTOR:
        return None
    figure = f"completions went from {then:.0f} to {now:.0f} tokens in {LENGTH_STEPS} steps, the reward by {rise:+.2f}"
    if now > then:
        return f"{figure}: longer is not better; try algorithm=dr_grpo, which does not spare long wrong answers, or soft_overlong"
    return f"{figure}: the thinking is being lost; look at the samples, and at rewards that pay for being short"


def held_out(run: RunHistory) -> str | None:
    last = run.heldout[-1]["metrics"] if run.heldout else {}
    for error_name in (name for name in last if name.startswith("accuracy_error")):
        name = error_name.replace("accuracy_error", "accuracy")  # of several tasks, each has its own
        known = [event for event in run.heldout if event["metrics"].get(name) is not None]
        if last.get(name) is None:
            continue
        best = max(known, key=lambda event: float(event["metrics"][name]))
        # Each error is half of a 95 % interval: this is that of the difference, were the problems drawn anew.
        doubt = ((last[error_name] or 0.0) ** 2 + (best["metrics"].get(error_name) or 0.0) ** 2) ** 0.5
        if best["metrics"][name] - last[name] <= doubt:
            continue
        now = run.mean("reward")
        then = known_values([event for event in run.steps if best["step"] - RECENT < event["step"] <= best["step"]], "reward")
        if now is not None and (not then or now >= fmean(then)):
            return (
                f"held-out {name} fell from {best['metrics'][name]:.2f} (step {best['step']}) to {last[name]:.2f}, the training "
                "reward did not: problems are learnt by heart or a reward is cheated; take more problems, and the best checkpoint"
            )
    return None


def collapse(run: RunHistory) -> str | None:
    now = run.mean("accuracy")
    ends = range(RECENT, len(run.steps) - RECENT + 1, RECENT)
    parts = [known_values(run.steps[end - RECENT : end], "accuracy") for end in ends]
    means = [fmean(values) if values else 0.0 for values in parts]
    if now is None or not means:
        return None
    best = max(means)
    if best - means[0] < GAINED or best - now < LOST_AGAIN * (best - means[0]):
        return None
    best_step = run.steps[ends[means.index(best)] - 1]["step"]
    return (
        f"accuracy fell from {best:.2f} (around step {best_step}) to {now:.2f}: the policy has lost most of what it had learnt; "
        "go on from an earlier checkpoint with a lower learner.learning_rate"
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
