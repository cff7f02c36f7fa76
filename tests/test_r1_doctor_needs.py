"""What a configuration asks of the machines."""

import pytest
from tiny import tiny_config

from r1.doctor.needs import request_for
from tasks import TASKS
from tasks.data_set import DataSet


@pytest.mark.parametrize(
    ("overrides", "files", "data_sets"),
    [
        (["task.name=arithmetic"], [], []),
        (["task.name=gsm8k"], [], ["openai/gsm8k"]),
        (["task.name=math:3-5"], [], [TASKS["math"].hub]),
        (["task.name=gsm8k", "task.path=org/rows:main@train", "task.heldout_path=h.jsonl"], ["h.jsonl"], ["org/rows"]),
        # The training problems are still the published ones; of a task that is only evaluated none are read.
        (["task.name=gsm8k", "task.heldout_path=h.jsonl"], ["h.jsonl"], ["openai/gsm8k"]),
        (["task.name=arithmetic", 'task.mix={gsm8k={weight=0, heldout_path="h.jsonl"}}'], ["h.jsonl"], []),
        (["task.name=arithmetic", "task.mix={gsm8k={weight=0}}"], [], ["openai/gsm8k"]),
    ],
)
def test_where_problems_come_from(overrides, files, data_sets):
    request = request_for(tiny_config(*overrides))
    assert (request["files"], request["data_sets"]) == (files, data_sets)


def test_a_task_tells_the_data_set_that_it_reads():
    of_sets = {name: task for name, task in TASKS.items() if isinstance(getattr(task.load, "__self__", None), DataSet)}
    assert len(of_sets) > 10
    assert {name: task.hub for name, task in of_sets.items()} == {name: task.load.__self__.hub for name, task in of_sets.items()}
