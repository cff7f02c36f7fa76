"""When the learner of a run looks wrong: drift, entropy, clipping, waiting. A function for each heading of docs/tuning.md."""

from collections.abc import Mapping
from statistics import fmean, median

from r1.config import RunConfig
from r1.run_history import FEWEST, RECENT, Rule, RunHistory, known_values, mismatch_is_bounded, one_of, percent

# In bfloat16 0.03 is healthy, under the shipped configurations' bound of 0.06.
NEAR_BOUND = 0.8
# "Stable below 0.01" for the KL between sampler and learner: Tinker, tinker-docs.thinkingmachines.ai/rl/rl-hyperparams.
MAX_MISMATCH_KL = 0.01
# Cui et al. (arXiv:2505.22617) find accuracy to be paid for with entropy, 76 % of the gain for the first 73 % of it, and a
# plateau where it is spent. A tenth of the start is ours.
SPENT_ENTROPY, START_STEPS = 0.1, 5
RISEN_ENTROPY = 3.0
# Below this, threefold is still little: the quickstart begins with 0.17.
FEW_NATS = 0.5
# Token by token, thousandths are usual. GSPO clips whole completions, two orders of magnitude more of them (arXiv:2507.18071,
# figure 2): the quickstart with four updates a step began at 0.54 and learnt.
MAX_CLIPPED, MAX_CLIPPED_GSPO = 0.1, 0.8
# The larger of the two that Spinning Up's PPO calls usual between old and new policy (target_kl "0.01 or 0.05").
MAX_APPROX_KL = 0.05
# In the quickstart no norm exceeds 1.8 times the median before it. Spikes precede collapses (arXiv:2602.17616, figure 1), but a
# single one may pass: a Countdown run went on undisturbed after 20 times.
NORM_SPIKE, NORM_STEPS = 10.0, 20
# k3 is about half of the squared difference: at 0.5 a token is typically e times as likely as under the reference, or 1/e.
MAX_KL = 0.5
DOMINATES = 0.9
# Scoring overlaps with sampling and a sync takes seconds: a step of which they are a third is too small for its overhead.
SMALL_PHASE, WORTHWHILE_S = 0.3, 1.0
# AReaL's documentation allows 4 versions. Few effective samples predict collapses: arXiv:2602.17616.
MAX_STALENESS, MIN_EFFECTIVE = 4.0, 0.5


def mismatch(run: RunHistory) -> str | None:
    config, kl = run.config, run.mean("mismatch_kl")
    correction = None if config and config.algorithm.correction != "none" else "algorithm.correction=token_truncate"
    if config and mismatch_is_bounded(config) and "mismatch" in run.metrics:
        value, bound = run.metrics["mismatch"], config.sync.max_logprob_diff
        if value is None or value > NEAR_BOUND * bound:
            figure = "not a number" if value is None else f"{value:.1e}"
            place = "above" if value is None or value > bound else "near"
            precision = None if config.dtype == "float32" else "dtype=float32"
            return (
                f"mean |old - rollout| log-probability is {figure}, {place} sync.max_logprob_diff = {bound:.0e}: engine and "
                f"learner no longer agree; try {one_of(correction, precision, 'a lower learner.learning_rate')}"
            )
    if kl is not None and kl > MAX_MISMATCH_KL:
        fresher = "a lower rollout.max_staleness" if config is None or config.rollout.max_staleness else None
        return (
            f"mismatch_kl between engine and learner is {kl:.3f}, stable runs stay below {MAX_MISMATCH_KL}: try "
            f"{one_of(correction, 'a lower learner.learning_rate', fresher)}"
        )
    return None


def entropy_low(run: RunHistory) -> str | None:
    start, now = _start_entropy(run), run.mean("entropy")
    if start is None or now is None or now >= SPENT_ENTROPY * start:
        return None
    clip_higher = "algorithm.clip_high" if run.config is None or _clips(run.config) else None
    return (
        f"entropy is {now:.3f}, {percent(now / start)} of what it was in the first steps: little is left to explore, and the "
        f"reward will hardly rise further; {one_of('harder problems', 'algorithm.entropy_coef', clip_higher)} keep it up"
    )


def entropy_high(run: RunHistory) -> str | None:
    start, now = _start_entropy(run), run.mean("entropy")
    if start is None or now is None or now <= RISEN_ENTROPY * start or now <= FEW_NATS:
        return None
    bonus = "algorithm.entropy_coef" if run.config is None or run.config.algorithm.entropy_coef else None
    clip_higher = "algorithm.clip_high" if run.config is None or _clips(run.config) else None
    return (
        f"entropy is {now:.2f}, {now / start:.1f} times what it was in the first steps: the text dissolves, mostly before the "
        f"reward falls; look at the samples, lower {one_of(bonus, clip_higher, 'learner.learning_rate')}"
    )


def clipping(run: RunHistory) -> str | None:
    low, high, moved = run.mean("clip_low_share") or 0.0, run.mean("clip_high_share") or 0.0, run.mean("approx_kl")
    # Without its configuration the run may be GSPO.
    limit = MAX_CLIPPED if run.config and run.config.algorithm.loss != "gspo" else MAX_CLIPPED_GSPO
    if low + high > limit:
        figure = f"{percent(low + high)} of the tokens are clipped ({percent(low)} below, {percent(high)} above)"
    elif moved is not None and moved > MAX_APPROX_KL:
        figure = f"the policy is a KL of {moved:.2f} a token away from what the loss compares it with"
    else:
        return None
    several = None if run.config and run.config.learner.minibatches_per_step == 1 else "learner.minibatches_per_step"
    if run.config and run.config.learner.old_logprobs == "rollout":
        return (
            f"{figure}: with learner.old_logprobs=rollout that holds the mismatch of engine and learner, and with "
            f"rollout.max_staleness how old the samples are; lower {one_of('learner.learning_rate', several)}, or try "
            "learner.old_logprobs=recompute"
        )
    return (
        f"{figure}: the later updates of a step learn from another policy's samples; lower "
        f"{one_of('learner.learning_rate', several)}"
    )


def gradient(run: RunHistory) -> str | None:
    skipped, norm = run.metrics.get("skipped_updates"), run.metrics.get("grad_norm")
    if skipped:
        return (
            f"{skipped:.0f} update(s) of this step were skipped, loss or gradient was not finite: three in a row end the run; "
            "lower learner.learning_rate"
        )
    before = run.values("grad_norm", NORM_STEPS, before=1)
    if norm is None or len(before) < RECENT or not 0 < NORM_SPIKE * median(before) < norm:
        return None
    return (
        f"the gradient norm is {norm:.2g}, {norm / median(before):.0f} times the median of the steps before: one such step "
        "passes, several begin a collapse; look at this step's samples, lower learner.learning_rate"
    )


def reference_kl(run: RunHistory) -> str | None:
    kl = run.mean("kl")
    if kl is None or abs(kl) <= MAX_KL:
        return None
    return (
        f"the KL to the reference policy is {kl:.2f} a token: the policy is far away, and the KL term outweighs the reward; "
        "lower learner.learning_rate, or move the reference with algorithm.reference_every"
    )


def waiting(run: RunHistory) -> str | None:
    timings = [event.get("timings_s") or {} for event in run.steps[-RECENT:]]
    names = dict.fromkeys(name for of_step in timings for name in of_step)
    seconds = {name: fmean(of_step.get(name) or 0.0 for of_step in timings) for name in names}
    total = sum(seconds.values())
    if len(timings) < FEWEST or total < WORTHWHILE_S:
        return None
    share = {name: value / total for name, value in seconds.items()}
    sync = share.get("publish", 0.0) + share.get("load", 0.0)
    config = run.config
    if share.get("sample", 0.0) > DOMINATES:
        return (
            f"sampling takes {percent(share['sample'])} of a step, the learner waits: more rollout.num_workers or "
            "rollout.max_num_seqs, or rollout.oversampling against the longest completions"
        )
    if share.get("update", 0.0) > DOMINATES:
        overlap = "" if config and config.rollout.max_staleness else ", or rollout.max_staleness=1"
        return (
            f"the update takes {percent(share['update'])} of a step, the engines wait: more learner.num_ranks, a larger "
            f"learner.max_tokens_per_microbatch{overlap}"
        )
    if share.get("score", 0.0) > SMALL_PHASE:
        return f"{percent(share['score'])} of a step is spent on scores after sampling: time the rewards with r1 rewards try"
    if sync > SMALL_PHASE:
        shorter = None if config and config.dtype == "bfloat16" else "dtype=bfloat16"
        return f"weight syncs take {percent(sync)} of the time: {one_of('larger steps (rollout.num_prompts)', shorter)}"
    return None


def staleness(run: RunHistory) -> str | None:
    versions, effective = run.mean("staleness"), run.mean("effective_share")
    if versions is not None and versions > MAX_STALENESS:
        return f"samples are {versions:.1f} versions old: another policy's than the one that learns; lower rollout.max_staleness"
    # The finding is about whole completions: weights of single tokens, capped, hardly ever differ so much.
    is_by_sequence = run.config is not None and run.config.algorithm.correction.startswith("sequence_")
    if effective is not None and effective < MIN_EFFECTIVE and is_by_sequence:
        return (
            f"algorithm.correction leaves {percent(effective)} effective samples, so that few completions decide an update: "
            "lower rollout.max_staleness, or try algorithm.correction=token_truncate"
        )
    return None


LEARNER_RULES: Mapping[str, Rule] = {
    "mismatch": mismatch,
    "entropy-low": entropy_low,
    "entropy-high": entropy_high,
    "clipping": clipping,
    "gradient": gradient,
    "kl": reference_kl,
    "waiting": waiting,
    "staleness": staleness,
}
"""Heading of docs/tuning.md -> its rule."""


def _clips(config: RunConfig) -> bool:
    """Whether the clip range can act: with one update, and old log-probabilities of the learner's, every ratio is 1."""
    return config.learner.minibatches_per_step > 1 or config.learner.old_logprobs == "rollout"


def _start_entropy(run: RunHistory) -> float | None:
    """Mean of the first steps, once the last ones are others."""
    values = known_values(run.steps[:START_STEPS], "entropy")
    start = fmean(values) if values else 0.0
    return start if start > 0 and len(run.steps) >= START_STEPS + RECENT else None
