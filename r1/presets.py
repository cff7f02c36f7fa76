"""Published algorithms as options of the section `algorithm`: name -> option -> value. Plain data.

A preset holds what its paper fixes and this project has; any option may be overridden beside it. An option that a preset
does not name keeps its own default or is not read (`cispo` has no clip_low, `reinforce` no clip at all, and kl_estimator
is read when kl_coef is above 0). No preset sets a correction or an entropy bonus: no paper here has one.
"""

from collections.abc import Mapping

PRESETS: Mapping[str, Mapping[str, str | float | bool]] = {
    # DeepSeekMath, arXiv:2402.03300, equation 3; KL coefficient 0.04 in section 4.2. The paper gives no clip range: 0.2 is
    # PPO's (arXiv:1707.06347). Leaves out: process supervision, a trained reward model.
    "grpo": {
        "advantage": "grpo",
        "loss": "clip",
        "aggregation": "sequence_mean",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_estimator": "k3",
        "kl_coef": 0.04,
    },
    # arXiv:2503.20783, section 3.2: no division by the deviation or by the length; no KL. Clip range: PPO's 0.2.
    "dr_grpo": {
        "advantage": "dr_grpo",
        "loss": "clip",
        "aggregation": "constant",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_coef": 0.0,
    },
    # arXiv:2503.14476: clip-higher 0.2 / 0.28 (section 4.1), token-level loss (equation 12), no KL (section 2.3), overlong
    # filtering (section 3.4), dynamic sampling (section 3.2). Leaves out: soft overlong punishment, which is the reward
    # `soft_overlong` (4,096 of 20,480 tokens in section 4.1, its default share of 0.2).
    "dapo": {
        "advantage": "grpo",
        "loss": "clip",
        "aggregation": "token_mean",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "kl_coef": 0.0,
        "overlong_filtering": True,
        "zero_variance": "resample",
    },
    # arXiv:2402.14740: REINFORCE on the whole completion, i.e. the sum of its tokens: `constant` but for a factor, which
    # Adam takes out and gradient clipping does not. Leaves out: the KL term inside the reward (beta 0.03 in appendix C).
    "rloo": {
        "advantage": "rloo",
        "loss": "reinforce",
        "aggregation": "constant",
        "kl_coef": 0.0,
    },
    # arXiv:2507.18071, equations 5 to 7; clip 3e-4 and 4e-4 in section 5.1, with four mini-batches per step
    # (learner.minibatches_per_step = 4). The paper's formulas have no KL.
    "gspo": {
        "advantage": "grpo",
        "loss": "gspo",
        "aggregation": "sequence_mean",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "kl_coef": 0.0,
    },
    # MiniMax-M1, arXiv:2506.13585, equation 4: token mean, no KL, no lower bound. The paper tunes the upper bound and does not
    # print it: 4.0 caps the weight at 5, as TRL configures ScaleRL's CISPO (arXiv:2510.13786).
    "cispo": {
        "advantage": "grpo",
        "loss": "cispo",
        "aggregation": "token_mean",
        "clip_high": 4.0,
        "kl_coef": 0.0,
    },
    # Williams 1992, Machine Learning 8: the raw reward, no baseline, no ratio; sums over tokens as in `rloo`.
    "reinforce": {
        "advantage": "none",
        "loss": "reinforce",
        "aggregation": "constant",
        "kl_coef": 0.0,
    },
    # arXiv:2501.03262, "w/ Baseline": group mean off, batch deviation, PPO's clipped loss (0.2, PPO's). Leaves out: its KL
    # term. The aggregation is ours: the paper writes an expectation over tokens, so the token mean.
    "reinforce_pp_baseline": {
        "advantage": "reinforce_pp_baseline",
        "loss": "clip",
        "aggregation": "token_mean",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_coef": 0.0,
    },
}
