"""The child process of `r1.scoring`: loads reward functions once, then judges one completion after another.

    python -m r1.scoring_child '{"socket": 5, "rewards": ["math_answer"], "deadline_s": 2.0}'

One JSON value a line, over a socket that the parent passes down: stdin is empty and stdout is stderr from the
start, so that a reward function that reads or prints cannot touch the protocol.

    child -> parent   {"ready": true}, or {"error": "..."} and the process ends
    parent -> child   ["the completion's text", {"answer": "72"}, [0]]
    child -> parent   [1.0, null] or [null, "ValueError: ..."], one line for each of the reward functions whose places in
                      "rewards" were asked for; line by line, so that the parent knows which function is slow or kills the process
"""

import importlib.util
import json
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.errors import UserError
from rewards import REWARDS
from rewards.base import RewardFn

MAX_ERROR_CHARS = 300
MEMORY_GIB = 1.0
"""Address space of one child process."""


def main() -> None:
    """Serve the parent's requests until it closes the socket or dies."""
    settings = json.loads(sys.argv[1])
    parent = socket.socket(fileno=settings["socket"])
    parent.set_inheritable(False)
    # Ctrl-C in a terminal reaches every process of the group; when to stop is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(MEMORY_GIB)
    try:
        functions = [resolve_reward(spec) for spec in settings["rewards"]]
        for function in functions:
            _warm_up(function)
    except Exception as error:  # noqa: BLE001  importing a user's file may raise anything; the parent tells the user
        _send(parent, {"error": str(error) if isinstance(error, UserError) else _describe(error)})
        return
    _send(parent, {"ready": True})
    with parent.makefile("r", encoding="utf-8", newline="\n") as requests:
        for line in requests:
            text, reference, asked_for = json.loads(line)
            # The parent enforces the deadline. This is for the day it has been killed: the kernel then ends us too,
            # even in a C loop that holds the interpreter. (PR_SET_PDEATHSIG would fire when the *thread* that started
            # us ends, see prctl(2), and macOS has none.)
            signal.setitimer(signal.ITIMER_REAL, 2 * settings["deadline_s"])
            for place in asked_for:
                _send(parent, judge(functions[place], text, reference))
            signal.setitimer(signal.ITIMER_REAL, 0)


def resolve_reward(spec: str) -> RewardFn:
    """Return the reward function that a name of rewards.REWARDS or a "path/to/file.py:function" stands for.

    >>> resolve_reward("reasoning_format").__name__
    'reasoning_format'
    """
    if ":" not in spec:
        return REWARDS[spec]
    path, _, name = spec.rpartition(":")
    if not Path(path).is_file():
        raise UserError(f"reward {spec!r}: no file {path!r}; give path/to/file.py:function")
    # Named by its whole path: a/reward.py and b/reward.py are two modules.
    module_spec = importlib.util.spec_from_file_location(f"reward_file:{path}", path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"reward {spec!r}: {path!r} is not a Python file; give path/to/file.py:function")
    module = importlib.util.module_from_spec(module_spec)
    # As the import statement does: dataclasses and pickling look their module up here.
    sys.modules[module_spec.name] = module
    module_spec.loader.exec_module(module)
    function: RewardFn | None = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"reward {spec!r}: {path!r} defines no function {name!r}")
    return function


def judge(function: RewardFn, text: str, reference: Mapping[str, Any]) -> Sequence[float | str | None]:
    """Return [value, None], or [None, error in words] when the function raises or returns no finite number.

    >>> judge(lambda text, reference: len(text) > 3, "four", {}), judge(lambda text, reference: None, "four", {})
    ([1.0, None], [None, None])
    >>> judge(lambda text, reference: float("nan"), "four", {})
    [None, 'returned nan; a reward is a finite number or None']
    """
    try:
        value = function(text, reference)
        if value is None:
            return [None, None]
        if isinstance(value, int | float) and math.isfinite(value):
            return [float(value), None]
        return [None, _shorten(f"returned {value!r}; a reward is a finite number or None")]
    except BaseException as error:  # noqa: BLE001  whatever a reward raises, sys.exit() included, is its error alone
        return [None, _describe(error)]


def _warm_up(function: RewardFn) -> None:
    module = sys.modules[getattr(function, "__module__", __name__)]
    if hasattr(module, "warm_up"):
        module.warm_up()


def _limit_memory(memory_gib: float) -> None:
    if sys.platform == "darwin":  # macOS refuses to lower RLIMIT_AS; there a reward may take what it wants
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(memory_gib * 2**30)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _send(parent: socket.socket, message: Any) -> None:
    try:
        parent.sendall(json.dumps(message).encode() + b"\n")
    except (BrokenPipeError, ConnectionResetError):
        # Nobody waits for the answer any more; skip the interpreter's tidying, which user code could hold up.
        os._exit(0)


def _describe(error: BaseException) -> str:
    return _shorten(f"{type(error).__name__}: {error}".removesuffix(": "))


def _shorten(message: str) -> str:
    return message if len(message) <= MAX_ERROR_CHARS else f"{message[:MAX_ERROR_CHARS]}..."


if __name__ == "__main__":
    main()
