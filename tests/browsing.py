"""Runs written by hand for the tests of the browser, and a driver for its app without a terminal."""

import asyncio
import json
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from scored_groups import scored_group
from textual.pilot import Pilot
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from r1.browse.app import Browser
from r1.browse.completions import CompletionsScreen
from r1.browse.lists import GroupsScreen, StepsScreen
from r1.browse.screen import BrowseScreen
from r1.browse.text_pane import TextPane
from r1.traces import write_traces
from r1.types import ScoredGroup, TokenValues


def small_run(run_dir: Path) -> Path:
    """Training steps 1 to 3 of two groups, held-out evaluations 0 and 2 of one; no metrics.jsonl.

    Group 0 is always problem-0. Group 1 of step 2: best, worst and an unjudged completion; in step 3 its problem is problem-9.
    """
    middling = scored_group(["alpha wait", "beta"], [0.5, 0.6], group_id=0, question="what is left?")
    mixed = scored_group(
        ["so 19.</think><answer>19</answer>", "no idea " * 40 + "the end", "gamma"],
        [1.1, 0.0, None],
        group_id=1,
        advantages=[1.25, -0.75, 0.0],
        breakdowns=[{"accuracy": 1.0, "reasoning_format": 1.0}, {"accuracy": 0.0, "reasoning_format": 0.0}, {"accuracy": None}],
        errors=[None, None, "accuracy: timed out after 2.0 s"],
        finish_reasons=["stop", "length", "stop"],
        num_tokens=[7, 64, 3],
        prefill="<think>",
    )
    other = replace(mixed, prompt=replace(mixed.prompt, problem=replace(mixed.prompt.problem, problem_id="problem-9")))
    write_traces(run_dir, 1, [middling], template="plain")
    write_traces(run_dir, 2, [middling, mixed], template="r1_zero_prefill")
    write_traces(run_dir, 3, [middling, other], template="r1_zero_prefill")
    for step in (0, 2):
        write_traces(run_dir, step, [scored_group([f"evaluated after {step}"], [0.0])], template="plain", split="heldout")
    return run_dir


@cache
def byte_tokenizer() -> Tokenizer:
    """A token for each byte, as byte-level vocabularies have at their bottom; id: the byte."""
    # The first letters of Hugging Face's byte alphabet are not in the order of the bytes: the decoder knows which is which.
    letters = {byte: letter for letter in pre_tokenizers.ByteLevel.alphabet() for byte in [_byte_of(letter)]}
    tokenizer = Tokenizer(models.BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_of(letter: str) -> int:
    # GPT-2's table: printable bytes are themselves, the others follow from U+0100 on, in order.
    themselves = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in themselves]
    return ord(letter) if ord(letter) in themselves else others[ord(letter) - 256]


def with_tokens(group: ScoredGroup, entropies: Sequence[Sequence[float]] | None = None) -> ScoredGroup:
    """The group with a token for each byte of its texts; old log-probabilities are 0.25 below the rollout's."""
    completions = tuple(
        replace(one, token_ids=tuple(one.text.encode()), rollout_logprobs=(-0.5,) * len(one.text.encode()))
        for one in group.completions
    )
    values = [
        TokenValues(
            old_logprobs=array("f", [-0.75] * len(one.token_ids)),
            entropies=array("f", entropies[index] if entropies else [1.0] * len(one.token_ids)),
        )
        for index, one in enumerate(completions)
    ]
    return replace(group, completions=completions, token_values=tuple(values))


def save_tokenizer(run_dir: Path) -> None:
    """A model folder beside the run, and the run's config.json that names it."""
    model = run_dir / "the-model"
    model.mkdir()
    byte_tokenizer().save(str(model / "tokenizer.json"))
    (run_dir / "config.json").write_text(json.dumps({"model": {"path": str(model)}}), encoding="utf-8")


class Driver:
    """Presses keys in the app and waits for what they should lead to."""

    def __init__(self, app: Browser, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)

    async def type_line(self, text: str) -> None:
        """Type into the prompt that is open, in place of what it holds, and submit."""
        self.app.screen.query_one("#input").value = text  # type: ignore[attr-defined]
        await self.pilot.press("enter")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for threads; what never comes true shows the screen."""
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"never came true; the screen:\n{self.screen_text()}")

    async def until_shown(self, text: str) -> None:
        await self.until(lambda: text in self.screen_text())

    def screen_text(self) -> str:
        """What the terminal would show."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    @property
    def where(self) -> str:
        """The first line."""
        assert isinstance(self.app.screen, BrowseScreen)
        return self.app.screen.where()

    @property
    def text(self) -> str:
        """All of the text pane, in view or not; "" while there is none."""
        return "".join(pane.document.text for pane in self.app.screen.query(TextPane))


async def open_group(driver: Driver, step: int, group: int) -> None:
    """From the steps to the completions of a group of a training step."""
    await driver.until(lambda: isinstance(driver.app.screen, StepsScreen))
    steps = driver.app.position.steps
    await driver.until(lambda: len(steps.shown) > 0)
    index = [str(line.key) for line in steps.shown].index(f"step {step} training")
    await driver.press("g", *["j"] * index, "enter")
    await driver.until(lambda: isinstance(driver.app.screen, GroupsScreen))
    await driver.press("g", *["j"] * group, "enter")
    await driver.until(lambda: isinstance(driver.app.screen, CompletionsScreen) and driver.text != "")


def drive(folder: Path, scenario: Callable[[Driver], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> Browser:
    """Run the app without a terminal and the scenario in it; return the app as it was left."""

    async def run() -> Browser:
        app = Browser(folder)
        async with app.run_test(size=size) as pilot:
            await scenario(Driver(app, pilot))
        return app

    return asyncio.run(run())
