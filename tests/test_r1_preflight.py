import pytest
from tiny import tiny_config

from r1.config import TaskConfig
from r1.errors import UserError
from r1.preflight import prepare
from r1.task_options import rewarded_as_configured
from tasks import TASKS


def configured(name="gsm8k", template="r1_zero", **options):
    return rewarded_as_configured(TASKS[name], TaskConfig(name=name, template=template, **options))


def test_a_task_has_its_own_rewards_unless_they_are_replaced():
    assert configured() == TASKS["gsm8k"]
    task = configured(rewards={"math_answer": 0.5, "tag_count": 0.2})
    assert (task.rewards, task.correctness) == ({"math_answer": 0.5, "tag_count": 0.2}, "math_answer")
    assert task.load is TASKS["gsm8k"].load
    assert TASKS["gsm8k"].rewards == {"math_answer": 1.0, "reasoning_format": 0.1}


def test_correctness_is_the_tasks_own_where_it_is_rewarded_else_the_first(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def f(completion, reference): return 1.0\n")
    assert configured(rewards={f"{own}:f": 1.0, "tag_count": 0.1}).correctness == f"{own}:f"
    assert configured(rewards={"tag_count": 0.1, "math_answer": 1.0}).correctness == "math_answer"


def test_a_template_without_tags_takes_the_format_reward_off_the_tasks_own():
    # With it, the format gate would close for every completion: each has reasoning_format 0.
    for template in ("boxed_chat", "few_shot", "plain", "zero_shot_cot"):
        assert configured(template=template).rewards == {"math_answer": 1.0}
    assert configured(template="r1_zero").rewards == {"math_answer": 1.0, "reasoning_format": 0.1}
    chosen = {"math_answer": 1.0, "reasoning_format": 0.5}
    assert configured(template="boxed_chat", rewards=chosen).rewards == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": {"math_anser": 1.0}}, "option 'task.rewards': no 'math_anser' here; did you mean 'math_answer'?"),
        (
            {"rewards": {"no/file.py:f": 1.0}},
            "option 'task.rewards': 'no/file.py:f': no file 'no/file.py'; give path/to/file.py:function",
        ),
        (
            {"rewards": {"accuracy": 0.0, "tag_count": -0.0}},
            "option 'task.rewards': a weight must be other than 0, or nothing can be learnt, got {'accuracy': 0.0, 'tag_count': -0.0}; "
            "raise one",
        ),
    ],
)
def test_rewards_that_cannot_work_are_refused_in_one_line(options, message):
    with pytest.raises(UserError) as caught:
        configured(**options)
    assert str(caught.value) == message


@pytest.mark.slow
def test_a_run_is_prepared_with_the_configured_rewards():
    overrides = ['task.rewards={"accuracy"=1.0,"tag_count"=0.2}', "evaluate.num_completions=0"]
    assert prepare(tiny_config(*overrides)).task.rewards == {"accuracy": 1.0, "tag_count": 0.2}
    with pytest.raises(UserError, match="option 'task.rewards': no 'acuracy' here; did you mean 'accuracy'"):
        prepare(tiny_config('task.rewards={"acuracy"=1.0}'))


def test_processes_that_cannot_share_the_heads_are_refused():
    with pytest.raises(UserError, match="must divide the model's 4 attention heads, got 3; use one of 1, 2, 4$"):
        prepare(tiny_config("rollout.tensor_parallel_size=3"))
