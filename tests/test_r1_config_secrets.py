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
        ("task.path=https://me:geheim/99@h.example/rows.jsonl", "task.path", "geheim"),
        ("task.path=https://me:12345@h.example/rows.jsonl", "task.path", "12345"),
        ("run_dir=abfs://box@h.example/run?sv=2024-11-04&sig=geheim99%3D", "run_dir", "geheim99"),
        ("task.path=https://h.example/rows.jsonl?key=geheim99", "task.path", "geheim99"),
        (f"model.path=sk-{'aB3' * 16}", "model.path", "aB3"),
        (f"model.path=sk-proj-a_b-{'aB3' * 16}", "model.path", "aB3"),
        (f"model.path=sk-ant-api03-{'aB3' * 16}", "model.path", "aB3"),
        (f"model.path=AIza{'aB3-_' * 7}", "model.path", "aB3"),
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


@pytest.mark.parametrize(
    "path",
    [
        "openai/gsm8k:main@train",
        "models/hf_export",
        "s3://bucket/a@b.jsonl",
        "/data/user:me/x@y.jsonl",
        "http://h.example:8080/a@b.jsonl",
        "http://[2001:db8::1]:8080/a@b.jsonl",
        "models/sk-learn-model",
        "models/sk-learn_classifier_version_2",
        "models/sk-learn-classifiers-of-the-year-2026",
        "org/task-0123456789abcdef0123456789abcdef",
        "https://h.example/rows.jsonl?keyboard=qwerty&design=1",
        "AIza",
    ],
)
def test_ordinary_names_are_no_secrets(path):
    assert load_config(QUICKSTART, [f"task.path={path}"]).task.path == path


def test_an_evaluation_refuses_them_as_well():
    with pytest.raises(UserError, match=r"^option 'model' holds a token"):
        new_settings(TOKEN, {"tasks": [{"name": "arithmetic", "path": None}]}, None)
