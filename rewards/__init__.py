"""Reward functions by name. A new one is one file and one line here."""

from collections.abc import Mapping

from rewards.accuracy import accuracy
from rewards.base import RewardFn
from rewards.math_answer import math_answer
from rewards.reasoning_format import reasoning_format

REWARDS: Mapping[str, RewardFn] = {
    "accuracy": accuracy,
    "math_answer": math_answer,
    "reasoning_format": reasoning_format,
}
