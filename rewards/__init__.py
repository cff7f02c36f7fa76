"""Reward functions by name. A new one is one file and one line here; docs/rewards.md is their table."""

from collections.abc import Mapping

from rewards.accuracy import accuracy
from rewards.base import RewardFn
from rewards.countdown import countdown
from rewards.language_consistency import language_consistency
from rewards.length_cosine import length_cosine
from rewards.math_answer import math_answer
from rewards.multiple_choice import multiple_choice
from rewards.reasoning_format import reasoning_format
from rewards.reasoning_gym import reasoning_gym
from rewards.repetition import repetition
from rewards.soft_overlong import soft_overlong
from rewards.tag_count import tag_count

REWARDS: Mapping[str, RewardFn] = {
    "accuracy": accuracy,
    "math_answer": math_answer,
    "multiple_choice": multiple_choice,
    "countdown": countdown,
    "reasoning_format": reasoning_format,
    "tag_count": tag_count,
    "soft_overlong": soft_overlong,
    "length_cosine": length_cosine,
    "repetition": repetition,
    "language_consistency": language_consistency,
    "reasoning_gym": reasoning_gym,
}
