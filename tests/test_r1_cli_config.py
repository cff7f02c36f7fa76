"""`r1 config`: what it prints loads again, and a diff has what differs and nothing else."""

import json
import tomllib

import pytest
from test_r1_cli_traces import output_of
from tiny import ROOT

from r1.cli.main import main
from r1.config import RunConfig, check_config, load_config
from r1.config_text import config_lines, differing_options, option_docs, option_values, toml_value

CONFIGS = sorted((ROOT / "launch/configs").glob("*.toml"))
QUICKSTART, DAPO, DR_GRPO = (ROOT / f"launch/configs/{name}.toml" for name in ("quickstart", "dapo", "dr_grpo"))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(load_config(QUICKSTART, ["seed=3", "run_dir=here"]).model_dump_json())
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("docs", [False, True])
def test_what_is_shown_loads_again_as_the_same(path, docs):
    config = load_config(path)
    shown = "\n".join(config_lines(config, docs=docs))
    assert check_config(tomllib.loads(shown)) == config


def test_a_mixture_is_shown_and_loads_again():
    config = load_config(QUICKSTART, ["task.mix.aime24.weight=0", 'task.mix."math:3-5"={"weight"=0.5,"path"="m.jsonl"}'])
    assert check_config(tomllib.loads("\n".join(config_lines(config)))) == config
    [(option, before, after)] = differing_options(load_config(QUICKSTART), config)
    assert (option, before) == ("task.mix", "{  }")
    assert after == '{ aime24 = { weight = 0.0 }, "math:3-5" = { weight = 0.5, path = "m.jsonl" } }'


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202e", "\x7f", "\x9f", "\U000e0001", 'a"b\\', "tab\tnew\nline", "übung", "a\u3164"])
def test_any_text_survives_and_none_reaches_the_terminal_as_a_command(text):
    config = load_config(QUICKSTART).model_copy(update={"run_dir": text})
    shown = "\n".join(config_lines(config))
    assert check_config(tomllib.loads(shown)).run_dir == text
    assert all((character.isprintable() and character != "\u3164") or character == "\n" for character in shown)


def test_values_as_toml():
    assert [toml_value(value) for value in (True, 3, 1e-6, "a b", None)] == ["true", "3", "1e-06", '"a b"', "unset"]
    table = {"math_answer": 1.0, "own.py:f": 0.5}
    assert tomllib.loads(f"x = {toml_value(table)}") == {"x": table}


def test_show_prints_every_option_with_its_default(capsys):
    shown = output_of(capsys, "config", "show", QUICKSTART, "algorithm=dapo", "seed=7").splitlines()
    lines = [" ".join(line.split()) for line in shown]
    assert "clip_high = 0.28 # default: 0.2" in lines
    assert "clip_low = 0.2 # default" in lines
    assert "seed = 7 # default: 0" in lines
    assert "# run_dir is unset # default" in lines
    assert "learning_rate = 0.0002" in lines  # it has no default
    assert sum(" = " in line or "is unset" in line for line in lines) == len(option_values(load_config(QUICKSTART)))


def test_docs_are_those_of_the_source(capsys):
    docs = option_docs()
    assert set(docs) <= set(option_values(load_config(QUICKSTART)))
    assert docs["rollout.num_prompts"] == "Prompts per step."
    assert docs["scoring.deadline_s"].startswith("Longest time for all reward functions of one completion, seconds")
    assert RunConfig.__doc__ not in docs.values()
    assert "# Prompts per step.\n" in output_of(capsys, "config", "show", QUICKSTART, "--docs")


def test_a_run_folder_is_shown_as_it_was_written(run, capsys):
    lines = [" ".join(line.split()) for line in output_of(capsys, "config", "show", run).splitlines()]
    assert "seed = 3 # default: 0" in lines
    assert 'run_dir = "here" # default: unset' in lines


def test_diff_has_what_differs_and_nothing_else(run, capsys):
    header, _rule, *rows = [line.split() for line in output_of(capsys, "config", "diff", QUICKSTART, run).splitlines() if line.strip()]
    assert header == ["option", str(QUICKSTART), str(run)]
    assert rows == [["run_dir", "unset", '"here"'], ["seed", "0", "3"]]
    assert output_of(capsys, "config", "diff", run, run) == ""
    published = output_of(capsys, "config", "diff", DAPO, DR_GRPO)
    assert "rollout.max_completion_tokens" in published
    assert "algorithm.clip_low" not in published  # 0.2 in both


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["show", "none.toml"], ["'none.toml' does not exist"]),
        (["show", str(ROOT / "tests")], ["'RUN'", "is not a run folder", "give a folder that a run wrote"]),
        (["show", str(QUICKSTART), "sede=1"], ["unknown option 'sede'", "did you mean 'seed'?"]),
        (["diff", str(QUICKSTART), "none.toml"], ["'none.toml' does not exist"]),
    ],
)
def test_bad_input_is_one_line(arguments, parts, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["config", *arguments])
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert len(error.strip().splitlines()) == 1
    assert all(part in error for part in parts), error


def test_a_damaged_run_folder(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"name": "x"})[:-1])
    with pytest.raises(SystemExit):
        main(["config", "show", str(tmp_path)])
    assert "is damaged" in capsys.readouterr().err
