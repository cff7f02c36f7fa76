"""The commands of the documentation for people who run things: each command, flag, option and path that it names is there."""

import importlib
import re
import shlex
import sys

import pytest
import typer
from tiny import ROOT

from r1.cli.main import app
from r1.config import RunConfig, load_config
from r1.runtime.placement import plan_placement

PAGES = ["docs/cluster.md", "docs/faq.md", "docs/tuning.md"]
every_page = pytest.mark.parametrize("page", PAGES)


def code_of(page):
    """Lines of code blocks, and what stands between backticks."""
    blocks = re.split(r"^```.*$", (ROOT / page).read_text(), flags=re.MULTILINE)
    lines = [line.split("   #")[0].strip() for block in blocks[1::2] for line in block.splitlines()]
    spans = [span.replace("\n", " ") for block in blocks[::2] for span in re.findall(r"`([^`]+)`", block)]
    return [line for line in lines if line] + spans


def commands(page, program):
    """What follows the program in each of its calls, split as a shell does."""
    calls = (re.search(rf"(?:^|\s|/){re.escape(program)}(?: (.*))?$", code) for code in code_of(page))
    return [shlex.split(call[1] or "") for call in calls if call]


@every_page
def test_every_option_that_is_named_exists(page):
    sections = {
        name: field.annotation for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields")
    }
    text = "\n".join(code_of(page))
    named = re.findall(rf"(?<![\w/.])({'|'.join(sections)})\.([a-z_]+)", text)
    named = [(section, option) for section, option in named if option not in ("json", "jsonl", "md")]
    assert len(named) > 10
    assert [f"{section}.{option}" for section, option in named if option not in sections[section].model_fields] == []


@every_page
def test_every_run_is_one_that_can_be_planned(page):
    calls = [*commands(page, "python -m launch.train"), *commands(page, "launch/submit.sh")]
    runs = [call for call in calls if call and call[0].startswith("launch/configs/")]
    for path, *rest in runs:
        config = load_config(ROOT / path, [word for word in rest if not word.startswith("--")])
        plan_placement(config, num_gpus=1024)
    assert page != "docs/cluster.md" or len(runs) >= 6


@pytest.mark.parametrize("module", ["launch.train", "launch.evaluate", "r1.simulate"])
def test_every_flag_of_a_module_exists(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        importlib.import_module(module).main()
    text = capsys.readouterr().out
    calls = [call for page in PAGES for call in commands(page, f"python -m {module}")]
    assert calls
    flags = {word for call in calls for word in call if re.match("-[a-z-]", word)}
    assert [flag for flag in flags if flag not in text] == []


@every_page
def test_every_r1_command_and_its_flags_exist(page):
    calls = [call for call in commands(page, "r1") if call]
    assert calls
    for call in calls:
        command, words = typer.main.get_command(app), iter(call)
        while hasattr(command, "commands"):  # r1 traces show RUN: names first
            command = command.commands.get(next(words))
            assert command is not None, call
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == [], call


@every_page
def test_every_file_and_heading_that_is_linked_exists(page):
    for target in re.findall(r"\]\(([^)#]*(?:#[^)]*)?)\)", (ROOT / page).read_text()):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, target
