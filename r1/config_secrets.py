"""Options that look like passwords and tokens are refused: a configuration is written to config.json, to trackers and reports."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1.errors import UserError

_SECRETS = {
    # A password may hold a slash; digits before one are a port, and the @ behind it is part of a path.
    "a URL with a password": re.compile(r"://[^/\s:@\[]*:(?!:|\d{1,5}/)[^\s@]+@"),
    "a URL with a key": re.compile(
        r"[?&](sig|key|[\w-]*(token|signature|secret|password|api_?key))=[^&\s]", re.IGNORECASE  # sig: of an Azure SAS
    ),
    "a token of the Hugging Face hub": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a token of GitHub": re.compile(r"\bgh[a-z]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"),
    # sk-learn-model is a name: a key has twenty characters in a row, and a digit.
    "a key of OpenAI, Anthropic or the like": re.compile(r"(?<![\w-])sk-(?=[\w-]*\d)[\w-]*[A-Za-z0-9]{20,}"),
    "a key of Google": re.compile(r"\bAIza[\w-]{35}"),
}


def refuse_secrets(tree: Mapping[str, Any]) -> None:
    """Raise `UserError` for the first option that holds a secret, or is named like one; the value is not repeated.

    >>> refuse_secrets({"task": {"path": "s3://bucket/rows.jsonl"}})
    >>> refuse_secrets({"task": {"path": "https://me:geheim@example.org/rows.jsonl"}})
    Traceback (most recent call last):
    r1.errors.UserError: option 'task.path' holds a URL with a password, and options are written to files, trackers and \
reports: put secrets into the environment (docs/security.md)
    """
    for option, text in _texts(tree):
        for what, pattern in _SECRETS.items():
            if pattern.search(text):
                raise UserError(
                    f"option {option!r} holds {what}, and options are written to files, trackers and reports: put secrets into "
                    "the environment (docs/security.md)"
                )


def _texts(value: Any, option: str = "") -> Iterator[tuple[str, str]]:
    """(option, text) of each text in a tree, and of each name: a reward is named by its file."""
    if isinstance(value, str):
        yield option, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield option, str(name)
            yield from _texts(inner, f"{option}.{name}" if option else str(name))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner, option)
