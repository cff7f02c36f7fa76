from io import StringIO

from rich.console import Console

from r1.evaluation.progress import Say


def test_what_a_data_set_says_does_not_command_the_terminal():
    file = StringIO()
    say = Say(Console(file=file, force_terminal=True, color_system=None, width=200))
    say.fault("bad row: rows.jsonl, line 3: \x1b[2Jno answer [red]\x9b1m")
    assert file.getvalue() == "bad row: rows.jsonl, line 3: \\x1b[2Jno answer [red]\\x9b1m\n"
