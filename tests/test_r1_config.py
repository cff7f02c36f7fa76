import pytest
from tiny import ROOT

from r1.config import check_config, load_config
from r1.config_overrides import apply_overrides
from r1.errors import UserError

QUICKSTART = ROOT / "launch/configs/quickstart.toml"
SMOLLM2 = ROOT / "launch/configs/smollm2_gsm8k_cpu.toml"


def error_of(*overrides):
    with pytest.raises(UserError) as caught:
        load_config(QUICKSTART, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", sorted((ROOT / "launch/configs").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path):
    assert load_config(path).name == path.stem


def test_overrides_are_toml_values_or_bare_strings():
    config = load_config(
        QUICKSTART, ["learner.learning_rate=1e-3", "task.path=../data/x.jsonl", "evaluate.num_completions=8", "name=a-b"]
    )
    assert (config.learner.learning_rate, config.task.path, config.evaluate.num_completions, config.name) == (
        1e-3,
        "../data/x.jsonl",
        8,
        "a-b",
    )


def test_rewards_are_an_inline_table_or_single_weights():
    table = 'task.rewards={"math_answer"=1.0,"tag_count"=0.2,"own/reward.py:f"=1}'
    assert load_config(QUICKSTART, [table]).task.rewards == {"math_answer": 1.0, "tag_count": 0.2, "own/reward.py:f": 1.0}
    single = ["task.rewards.accuracy=2", "task.rewards.repetition=0.5"]
    assert load_config(QUICKSTART, single).task.rewards == {"accuracy": 2.0, "reasoning_format": 0.1, "repetition": 0.5}
    assert load_config(SMOLLM2).task.rewards is None


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("learner.learning_rat=1", ["unknown option 'learner.learning_rat'", "did you mean 'learner.learning_rate'?"]),
        ("learnr.learning_rate=1", ["unknown option 'learnr'", "did you mean 'learner'?"]),
        ("task.mix.math.wieght=1", ["unknown option 'task.mix.math.wieght'", "did you mean 'task.mix.math.weight'?"]),
        ("task.mix.math.weight=1e306", ["'task.mix.math.weight'", "less than or equal to 1000", "got 1e+306"]),
        ("rollout.zzz=1", ["unknown option 'rollout.zzz'", "known here: engine, num_workers"]),
        ("num_steps=many", ["'num_steps'", "valid integer", "'many'"]),
        ("num_steps=1.5", ["'num_steps'", "1.5"]),
        ("rollout.group_size=1", ["'rollout.group_size'", "greater than or equal to 2", "got 1"]),
        ("rollout.temperature=0", ["'rollout.temperature'", "greater than 0", "got 0"]),
        ("dtype=int8", ["'dtype'", "'float32' or 'bfloat16'", "'int8'"]),
        ("rollout.max_staleness=-1", ["'rollout.max_staleness'", "greater than or equal to 0", "got -1"]),
        ("rollout.oversampling=0.5", ["'rollout.oversampling'", "greater than or equal to 1"]),
        ("algorithm.zero_variance=skip", ["'algorithm.zero_variance'", "'keep', 'drop' or 'resample'"]),
        ("sync.in_flight=true", ["sync.in_flight needs rollout.max_staleness", "set rollout.max_staleness=1"]),
        ("learner.minibatches_per_step=3", ["16 prompts do not divide into 3 mini-batches", "use 15 prompts"]),
        ("task.rewards={}", ["'task.rewards'", "at least 1 item", "got {}"]),
        ('task.rewards={"math_answer"=inf}', ["'task.rewards.math_answer'", "finite number", "inf"]),
        ('task.rewards={"math_answer"="much"}', ["'task.rewards.math_answer'", "valid number", "'much'"]),
        ("task.rewards=math_answer", ["'task.rewards'", "valid dictionary", "'math_answer'"]),
        ("nonsense", ["'nonsense'", "section.option=value"]),
        ("num_steps.x=1", ["'num_steps' is an option, not a section"]),
    ],
)
def test_bad_input_is_one_line_with_option_rule_value_and_remedy(override, parts):
    message = error_of(override)
    assert all(part in message for part in parts), message


def test_a_missing_option_is_named():
    with pytest.raises(UserError, match="option 'model' is missing"):
        check_config({"name": "x", "num_steps": 1})


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(UserError, match="is not valid TOML"):
        load_config(broken)


def test_a_file_may_begin_with_a_mark(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + QUICKSTART.read_bytes())  # as Windows' editors write it
    assert load_config(path) == load_config(QUICKSTART)


def test_stale_samples_are_corrected_unless_somebody_says_otherwise():
    assert load_config(QUICKSTART).algorithm.correction == "none"
    stale = ["rollout.max_staleness=1"]
    assert load_config(QUICKSTART, stale).algorithm.correction == "token_truncate"
    assert load_config(QUICKSTART, [*stale, "algorithm=dapo"]).algorithm.correction == "token_truncate"
    assert load_config(QUICKSTART, [*stale, "algorithm.correction=none"]).algorithm.correction == "none"


def test_the_saved_configuration_reads_back_the_same():
    config = load_config(QUICKSTART, ["seed=3"])
    assert check_config(apply_overrides(config.model_dump(), [])) == config


def test_there_are_at_most_sixty_options():
    # More than that nobody can keep in mind; a knob that no two shipped configs set differently is a constant. The options of
    # a task in task.mix are those of the task itself, and a weight.
    def count(model):
        return sum(count(f.annotation) if hasattr(f.annotation, "model_fields") else 1 for f in model.model_fields.values())

    assert count(type(load_config(QUICKSTART))) <= 60


def test_a_quoted_name_keeps_its_dots():
    tree = apply_overrides({}, ['task.rewards."my/judge.py:score"=1.0', "task.mix.'math:3-5'.weight=2", "name=a=b"])
    assert tree == {"task": {"rewards": {"my/judge.py:score": 1.0}, "mix": {"math:3-5": {"weight": 2}}}, "name": "a=b"}
