"""Fixtures that several files share; helpers are imported from their own modules."""

import os
import signal

from fake_pool import engines, make_pool
from misbehaving_rewards import on_command, reward_file, shared_pool
from trained_run import trained_run

__all__ = ["engines", "make_pool", "on_command", "reward_file", "shared_pool", "trained_run"]

# `make test`: beside tests that wait a lot, and only in the time that they leave. Children inherit it.
if os.environ.get("R1_TESTS_IN_IDLE_TIME") and hasattr(os, "SCHED_IDLE"):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

# A shell's `make test &` ignores Ctrl-C, and so would every process of the tests that send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
