"""Each rule on a history made by hand: what it says at its threshold, and that it is silent just below."""

from run_records import run_config, said, step, steps

from r1.step_warnings import warnings_now

ROLLOUT = {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 1024}


def test_mismatch_near_and_above_its_bound():
    config = run_config(sync={"max_logprob_diff": 0.05})
    text = said(steps((1, {"mismatch": 0.041})), config=config)["mismatch"]
    assert text.startswith("mean |old - rollout| log-probability is 4.1e-02, near sync.max_logprob_diff = 5e-02")
    assert "above sync.max_logprob_diff" in said(steps((1, {"mismatch": 0.051})), config=config)["mismatch"]
    assert "is not a number, above" in said(steps((1, {"mismatch": None})), config=config)["mismatch"]
    assert said(steps((1, {"mismatch": 0.039})), config=config) == {}
    assert "mismatch" in said(steps((1, {"mismatch": 0.3, "fresh_share": 0.9999999})), config=config)  # a sum of float32 shares
    stale = run_config(sync={"max_logprob_diff": 0.05}, rollout=ROLLOUT | {"max_staleness": 1})
    assert said(steps((1, {"mismatch": 0.3, "fresh_share": 1.0})), config=stale) == {}  # how far the policy has moved
    assert warnings_now(steps((1, {"mismatch": 0.3}))) == []  # whose bound?


def test_mismatch_kl():
    assert said(steps((3, {"mismatch_kl": 0.011})))["mismatch"].startswith("mismatch_kl between engine and learner is 0.011")
    assert said(steps((3, {"mismatch_kl": 0.01}))) == {}


def test_entropy_that_is_spent():
    # a tenth of what it was in the first five steps
    text = said(steps((5, {"entropy": 0.5}), (10, {"entropy": 0.049})))["entropy-low"]
    assert text.startswith("entropy is 0.049, 10 % of what it was in the first steps")
    assert said(steps((5, {"entropy": 0.5}), (10, {"entropy": 0.05}))) == {}
    assert said(steps((5, {"entropy": 0.5}), (9, {"entropy": 0.0001}))) == {}  # the last ten steps hold one of the first


def test_entropy_that_explodes():
    text = said(steps((5, {"entropy": 0.5}), (10, {"entropy": 1.6})))["entropy-high"]
    assert text.startswith("entropy is 1.60, 3.2 times what it was in the first steps")
    assert said(steps((5, {"entropy": 0.5}), (10, {"entropy": 1.5}))) == {}
    assert "entropy-high" in said(steps((5, {"entropy": 0.1}), (10, {"entropy": 0.51})))
    assert said(steps((5, {"entropy": 0.1}), (10, {"entropy": 0.49}))) == {}  # five times, of very little


def test_clipping():
    clipped = {"clip_low_share": 0.04, "clip_high_share": 0.07}
    text = said(steps((3, clipped)))["clipping"]
    assert text.startswith("11 % of the tokens are clipped (4 % below, 7 % above)")
    assert said(steps((3, clipped | {"clip_high_share": 0.06}))) == {}
    gspo = run_config(algorithm={"preset": "gspo"})
    assert said(steps((3, {"clip_low_share": 0.4, "clip_high_share": 0.39})), config=gspo) == {}  # as it is meant to
    assert "clipping" in said(steps((3, {"clip_low_share": 0.4, "clip_high_share": 0.41})), config=gspo)
    assert warnings_now(steps((3, clipped))) == []  # it may be GSPO
    assert said(steps((3, {"approx_kl": 0.06})))["clipping"].startswith("the policy is a KL of 0.06 a token away")
    assert said(steps((3, {"approx_kl": 0.049}))) == {}


def test_gradient():
    assert said(steps((1, {"skipped_updates": 1.0, "grad_norm": None})))["gradient"].startswith("1 update(s) of this step were")
    calm = (10, {"grad_norm": 0.2})
    text = said(steps(calm, (1, {"grad_norm": 2.2})))["gradient"]
    assert text.startswith("the gradient norm is 2.2, 11 times the median of the steps before")
    assert said(steps(calm, (1, {"grad_norm": 2.0}))) == {}
    assert said(steps((9, {"grad_norm": 0.2}), (1, {"grad_norm": 9.0}))) == {}  # a median of nine is too few
    assert said(steps(calm, (1, {"grad_norm": 9.0}), (1, {"grad_norm": 0.2}))) == {}  # it is over
    assert said(steps((10, {"grad_norm": 0.0}), (1, {"grad_norm": 0.5}))) == {}  # nothing could be learnt before


def test_kl():
    assert said(steps((3, {"kl": 0.51})))["kl"].startswith("the KL to the reference policy is 0.51 a token")
    assert said(steps((3, {"kl": 0.5}))) == {}
    assert "kl" in said(steps((3, {"kl": -0.6})))  # k1 may have either sign


def test_waiting():
    def after(**seconds: float) -> dict[str, str]:
        return said([step(number, {}, seconds) for number in (1, 2, 3)])

    # 9.2 of 10 s; 9 of 10 s are not too much
    assert after(sample=9.2, update=0.8)["waiting"].startswith("sampling takes 92 % of a step, the learner waits")
    assert after(sample=9.0, update=1.0) == {}
    assert after(sample=0.8, update=9.2)["waiting"].startswith("the update takes 92 % of a step, the engines wait")
    assert after(sample=5.0, score=4.0, update=1.0)["waiting"].startswith("40 % of a step is spent on scores")
    assert after(sample=5.0, publish=2.0, load=2.0, update=1.0)["waiting"].startswith("weight syncs take 40 % of the time")
    assert after(sample=5.0, publish=1.0, load=1.9, update=2.1) == {}
    assert "waiting" in after(sample=0.94, update=0.07)
    assert after(sample=0.92, update=0.07) == {}  # steps of less than a second


def test_staleness():
    assert said(steps((3, {"staleness": 4.5})))["staleness"].startswith("samples are 4.5 versions old")
    assert said(steps((3, {"staleness": 4.0, "effective_share": 0.5}))) == {}
    by_sequence = run_config(algorithm={"correction": "sequence_mask:1.1"})
    assert "leaves 49 % effective samples" in said(steps((3, {"effective_share": 0.49})), config=by_sequence)["staleness"]
    assert said(steps((3, {"effective_share": 0.5})), config=by_sequence) == {}
    assert said(steps((3, {"effective_share": 0.1}))) == {}  # no weights of whole completions


def test_nothing_is_recommended_that_the_run_has_already():
    config = run_config(
        dtype="bfloat16", algorithm={"correction": "token_truncate:1.5"}, learner={"learning_rate": 1e-4, "old_logprobs": "rollout"}
    )
    mismatch = said(steps((1, {"mismatch": 0.3})), config=config)["mismatch"]
    assert mismatch.endswith("try dtype=float32 or a lower learner.learning_rate")
    assert "token_truncate" in said(steps((1, {"mismatch": 0.3})))["mismatch"]
    clipping = said(steps((3, {"approx_kl": 0.06})), config=config)["clipping"]
    assert "that holds the mismatch of engine and learner" in clipping
    assert "minibatches" not in clipping  # there is one
