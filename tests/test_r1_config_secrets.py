import pytest
from processes import QUICKSTART

from r1.config import load_config
from r1.errors import UserError
from r1.evaluation.settings import new_settings

TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    ("override", "option", "secret"),
    [
        ("task.path=s3://key:geheim99@bucket/rows.jsonl", "task.path", "geheim99"),
        ("task.path=https://h.example/rows.jsonl?X-Amz-Signature=geheim99", "task.path", "geheim99"),
        (f"model.path={TOKEN}", "model.path", TOKEN),
        ('logging.trackers=["https://me:geheim99@h.example"]', "logging.trackers", "geheim99"),
        ('task.rewards={"https://me:geheim99@h.example/f.py:f"=1.0}', "task.rewards", "geheim99"),
        # Other rules are broken as well, whose errors would repeat the value.
        ("name=https://me:geheim99@h.example", "name", "geheim99"),
    ],
)
def test_an_option_that_holds_a_secret_is_refused_without_repeating_it(override, option, secret):
    with pytest.raises(UserError, match=rf"^option '{option}' holds a .*: put secrets into the environment") as error:
        load_config(QUICKSTART, [override])
    assert secret not in str(error.value)


@pytest.mark.parametrize("path", ["openai/gsm8k:main@train", "models/hf_export", "s3://bucket/a@b.jsonl", "/data/user:me/x@y.jsonl"])
def test_ordinary_names_are_no_secrets(path):
    assert load_config(QUICKSTART, [f"task.path={path}"]).task.path == path


def test_an_evaluation_refuses_them_as_well():
    with pytest.raises(UserError, match=r"^option 'model' holds a token"):
        new_settings(TOKEN, {"tasks": [{"name": "arithmetic", "path": None}]}, None)
