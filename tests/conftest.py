"""Fixtures that several files share; helpers are imported from their own modules."""

import signal

from fake_pool import engines, make_pool
from misbehaving_rewards import on_command, reward_file, shared_pool
from trained_run import trained_run

__all__ = ["engines", "make_pool", "on_command", "reward_file", "shared_pool", "trained_run"]

# A shell's `make test &` ignores Ctrl-C, and so would every process of the tests that send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
