"""`r1 rewards` as its tests call it."""

import re

import pytest

from r1.cli.main import main

# A reward that does what the completion says: "0.5" returns 0.5, "none" None, and so on.
PUPPET = '''
import time

def puppet(completion, reference):
    """Do as the completion says."""
    if completion in reference:
        return reference[completion]
    word = completion.split()[-1]
    if word == "raise":
        raise ValueError("as told")
    if word == "hang":
        time.sleep(60)
    return None if word == "none" else float(word)
'''


def run(capsys: pytest.CaptureFixture[str], *arguments: object, exit_code: int = 0) -> str:
    """What `r1 rewards ARGUMENTS` prints into a pipe: on stdout, or on stderr when it refuses."""
    with pytest.raises(SystemExit) as exit_:
        main(["rewards", *map(str, arguments)])
    captured = capsys.readouterr()
    assert exit_.value.code == exit_code, captured
    assert (captured.out == "") == (exit_code == 2)
    assert (captured.err == "") == (exit_code != 2)
    return captured.err if exit_code == 2 else captured.out


def cells(shown: str, first: str) -> list[str]:
    """The cells of the table row that begins with `first`."""
    row = next(line for line in shown.splitlines() if line.strip().startswith(first))
    return re.split(r"\s{2,}", row.strip())
