"""Fixtures that several files share; helpers are imported from their own modules."""

from fake_pool import engines, make_pool
from misbehaving_rewards import on_command, reward_file, shared_pool

__all__ = ["engines", "make_pool", "on_command", "reward_file", "shared_pool"]
