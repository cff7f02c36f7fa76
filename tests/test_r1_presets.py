"""Presets and overlong filtering: the parts of r1/algorithm without tensors."""

import ast
from pathlib import Path

import pytest

from r1 import presets
from r1.algorithm import ADVANTAGES, AGGREGATIONS, CORRECTIONS, KL_ESTIMATORS, LOSSES, overlong
from r1.algorithm.losses import LossOptions
from r1.algorithm.overlong import keep_finished
from r1.presets import PRESETS
from r1.types import Completion, RolloutGroup

NAMES = {
    "advantage": ADVANTAGES,
    "loss": LOSSES,
    "aggregation": AGGREGATIONS,
    "kl_estimator": KL_ESTIMATORS,
    "correction": CORRECTIONS,
}
NUMBERS = {"clip_low", "clip_high", "kl_coef"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_what_there_is(name):
    preset = PRESETS[name]
    assert {"advantage", "loss", "aggregation", "kl_coef"} <= set(preset)
    for option, value in preset.items():
        if option in NAMES:
            assert value in NAMES[option]
        elif option in NUMBERS:
            assert isinstance(value, float)
            assert value >= 0
        else:
            assert (option, value) in {("overlong_filtering", True), ("zero_variance", "resample")}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_options_that_they_read_and_no_others(name):
    preset = PRESETS[name]
    read = {"clip": {"clip_low", "clip_high"}, "gspo": {"clip_low", "clip_high"}, "cispo": {"clip_high"}, "reinforce": set()}
    assert {"clip_low", "clip_high"} & set(preset) == read[preset["loss"]]
    assert ("kl_estimator" in preset) == (preset["kl_coef"] > 0)
    LossOptions(clip_low=preset.get("clip_low", 0.2), clip_high=preset.get("clip_high", 0.2))


def test_the_figures_of_the_papers():
    assert (PRESETS["dapo"]["clip_low"], PRESETS["dapo"]["clip_high"]) == (0.2, 0.28)  # arXiv:2503.14476 section 4.1
    assert (PRESETS["gspo"]["clip_low"], PRESETS["gspo"]["clip_high"]) == (3e-4, 4e-4)  # arXiv:2507.18071 section 5.1
    assert PRESETS["grpo"]["kl_coef"] == 0.04  # arXiv:2402.03300 section 4.2
    assert set(PRESETS) == {"grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo", "reinforce", "reinforce_pp_baseline"}


@pytest.mark.parametrize("module", [presets, overlong])
def test_the_plain_files_import_no_torch(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"collections.abc", "r1.types"}


def completion(reason, group_id=0, sample_id=0):
    return Completion(
        group_id=group_id,
        sample_id=sample_id,
        token_ids=(1,),
        rollout_logprobs=(-0.1,),
        text="",
        finish_reason=reason,
        policy_version=0,
    )


def test_truncated_completions_leave_the_loss():
    groups = [
        RolloutGroup(prompt=None, completions=tuple(map(completion, reasons)))
        for reasons in (["stop", "length", "abort"], ["length"])
    ]
    assert keep_finished(groups) == [[True, False, True], [False]]
