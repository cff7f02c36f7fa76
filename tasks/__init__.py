"""Tasks by name. A new one is one file and one line here."""

from collections.abc import Mapping

from tasks.arithmetic import ARITHMETIC
from tasks.base import Task
from tasks.gsm8k import GSM8K

TASKS: Mapping[str, Task] = {
    "arithmetic": ARITHMETIC,
    "gsm8k": GSM8K,
}
