"""Fixtures that several files share; helpers are imported from their own modules."""

from misbehaving_rewards import on_command, reward_file, shared_pool

__all__ = ["on_command", "reward_file", "shared_pool"]
