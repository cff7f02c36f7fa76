"""Tasks by name. A new one is one file and one line here."""

from collections.abc import Mapping

from tasks.arithmetic import ARITHMETIC
from tasks.base import Task
from tasks.countdown import COUNTDOWN
from tasks.gsm8k import GSM8K

TASKS: Mapping[str, Task] = {
    "arithmetic": ARITHMETIC,
    "countdown": COUNTDOWN,
    "gsm8k": GSM8K,
}
