"""The learning rate of each optimizer update."""

import math

from r1.config import RunConfig


def learning_rate(config: RunConfig, num_updates: int) -> float:
    """Return the rate of the update after `num_updates`: linear warm-up from 0, then constant, or falling to 0 at the run's end.

    linear: the rate falls by the same amount each update; cosine: half a cosine wave (arXiv:1608.03983 equation 5, one cycle).
    """
    learner = config.learner
    done, warmup = num_updates + 1, learner.warmup_steps
    if done <= warmup:
        return learner.learning_rate * done / warmup
    if learner.schedule == "constant":
        return learner.learning_rate
    num_all = config.num_steps * learner.minibatches_per_step
    # The last update still learns something: its share of the way down is below 1.
    progress = min(1.0, (done - 1 - warmup) / max(1, num_all - warmup))
    return learner.learning_rate * ((1 - progress) if learner.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2)
