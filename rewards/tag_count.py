"""Partial credit for the tags of the format: a gradient for policies that seldom get all four right."""

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

from rewards.blocks import TAGS, has_visible_text

CREDIT = 0.25


def tag_count(completion: str, reference: Mapping[str, Any]) -> float:
    """Return 0, 0.25, 0.5, 0.75 or 1.0: a quarter for each of <think>, </think>, <answer>, </answer> in its place.

    Source: the rule of open-r1's reward of the same name (a quarter for each tag that occurs exactly once), and stricter:
    - Tags count only as far as they stand in this order. The longest such run is paid, so that tags in the wrong order
      earn no more than the best part of them.
    - An end tag earns nothing when the block that it closes is empty to the eye: four bare tags are worth 0.5.

    What the template prefilled counts too: a policy that was given <think> gets the quarter for leaving it alone.
    Text outside the blocks is not looked at; `reasoning_format` refuses it. The reference is not looked at.

    >>> tag_count("<think>7+5=12</think><answer>12</answer>", {}), tag_count("7+5=12</think><answer>12</answer>", {})
    (1.0, 0.75)
    >>> tag_count("<answer>12</answer><think>7+5=12</think>", {}), tag_count("<think><think>", {})
    (0.5, 0.0)
    """
    places = {tag: completion.index(tag) for tag in TAGS if completion.count(tag) == 1}
    # Combinations keep the right order; at most 16 of them.
    runs = [run for size in range(len(places) + 1) for run in combinations(places, size)]
    return max(CREDIT * _worth(run, completion, places) for run in runs if _is_in_order(run, places))


def _is_in_order(run: tuple[str, ...], places: Mapping[str, int]) -> bool:
    return all(places[left] < places[right] for left, right in pairwise(run))


def _worth(run: tuple[str, ...], completion: str, places: Mapping[str, int]) -> int:
    """How many tags of a run are paid: all but the ends of empty blocks."""
    blocks = [(start, end) for start, end in (TAGS[:2], TAGS[2:]) if start in run and end in run]
    filled = [has_visible_text(completion[places[start] + len(start) : places[end]]) for start, end in blocks]
    return len(run) - filled.count(False)
