"""Every command's help is complete."""

import pytest
import typer

from r1.cli.main import app


def commands(command, name="r1"):
    """The command and all below it, by the words that call them."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_all_commands_are_looked_at():
    assert {"r1 traces browse", "r1 traces export", "r1 report", "r1 serve", "r1 rewards try", "r1 config diff"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_says_what_shows_how_and_explains_each_option(name):
    command = COMMANDS[name]
    assert command.help.partition("\n")[0].endswith((".", ":"))
    lines = command.help.partition("Example")[2].splitlines()
    assert any(line.strip().startswith(name) for line in lines), f"{name}: no example of it"
    assert "\b\nExample" in command.help, f"{name}: its examples would be run together"
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, f"{name}: {parameter.name} has no help"
