"""When a warning is said, and that a healthy run is silent. The rules: test_r1_sample_warnings.py, test_r1_learner_warnings.py."""

import json
import re
from pathlib import Path

import pytest
from run_records import heldout, run_config, steps

from r1.config import RunConfig
from r1.step_warnings import GONE_STEPS, REPEAT_STEPS, RULES, WarningLog, warnings_of

ROOT = Path(__file__).resolve().parents[1]


def test_a_warning_is_said_when_it_begins_and_every_fifty_steps():
    events = steps((10, {"truncated_share": 0.0}), (130, {"truncated_share": 0.5}))
    # The mean of ten steps reaches 0.2 in step 14: four of 0.5 and six of 0.0.
    assert [(warning.step, warning.key) for warning in warnings_of(events)] == [
        (14, "truncated"),
        (14 + REPEAT_STEPS, "truncated"),
        (14 + 2 * REPEAT_STEPS, "truncated"),
    ]


def test_a_warning_that_flickers_is_said_once_and_one_that_was_gone_is_new():
    skipped, fine = {"skipped_updates": 1.0}, {"skipped_updates": 0.0}
    flickering = steps((1, skipped), (GONE_STEPS - 1, fine), (1, skipped), (GONE_STEPS, fine), (1, skipped))
    # Said in step 1; in step 11 it was gone for nine steps, in step 22 for ten.
    assert [warning.step for warning in warnings_of(flickering)] == [1, 22]


def test_the_log_knows_what_holds_whether_it_is_said_or_not():
    log = WarningLog(run_config())
    for event in steps((5, {"truncated_share": 0.5})):
        log.add(event)
    assert [warning.key for warning in log.now] == ["truncated"]
    assert log.now[0].step == 5
    assert str(log.now[0]).endswith("; see docs/tuning.md#truncated")


def test_an_evaluation_can_bring_a_warning_and_keeps_the_others():
    log = WarningLog(run_config())
    accuracies = {0: 0.6, 10: 0.6, 20: 0.5, 30: 0.5}
    evaluations = [heldout(number, accuracy=value, accuracy_error=0.02) for number, value in accuracies.items()]
    events = [*steps((20, {"reward": 0.5}), (20, {"reward": 0.7})), *evaluations]
    assert [warning for event in events for warning in log.add(event)] == []
    assert [warning.key for warning in log.add(heldout(40, accuracy=0.5, accuracy_error=0.02))] == ["held-out"]


def test_a_record_without_anything_is_silent():
    assert warnings_of([]) == []
    assert warnings_of([heldout(0, accuracy=0.5)]) == []
    assert warnings_of([{"kind": "step", "step": 1, "metrics": {}}, *steps((30, {}), (30, {"reward": None}))], run_config()) == []


def test_a_healthy_run_is_warned_of_one_thing():
    """The quickstart's own record: only at its end its entropy is spent."""
    events = [json.loads(line) for line in (ROOT / "tests/records/quickstart.jsonl").read_text().splitlines()]
    assert [(warning.step, warning.key) for warning in warnings_of(events, run_config())] == [(45, "entropy-low")]


@pytest.mark.parametrize("key", RULES)
def test_each_warning_has_its_heading_in_the_docs(key: str):
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/tuning.md").read_text(), re.MULTILINE)
    # How GitHub makes an anchor: lower case, spaces become dashes.
    assert key in [heading.lower().replace(" ", "-") for heading in headings]


def _named_options(text: str) -> list[str]:
    sections = "|".join(name for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields"))
    return re.findall(rf"(?<![\w/.])(?:{sections})\.[a-z_]+", text)


@pytest.mark.parametrize("path", ["docs/tuning.md", "r1/sample_warnings.py", "r1/learner_warnings.py"])
def test_each_option_that_is_named_exists(path: str):
    text = (ROOT / path).read_text()
    code = re.sub(r"config\.[a-z_.]+", "", text)  # what the rules read: mypy looks after that
    known = {
        f"{section}.{option}"
        for section, field in RunConfig.model_fields.items()
        if hasattr(field.annotation, "model_fields")
        for option in field.annotation.model_fields
    }
    named = set(_named_options(code)) - {"task.difficulty.startswith"}
    assert len(named) >= 5
    assert named <= known
