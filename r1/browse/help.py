"""The `?` key: all keys, and what the colours mean."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from r1.browse.document import Document
from r1.browse.text_pane import TextPane

SECTIONS = (
    (
        "Everywhere",
        (
            ("Enter", "open what is under the cursor"),
            ("q Esc", "back; q on the first screen quits"),
            ("Q Ctrl-Q", "quit"),
            ("j k ↓ ↑", "down, up; also PageDown PageUp (Ctrl-F Ctrl-B), g G for the ends, ← → where a list is too wide"),
            ("/", "search questions and completions for a regular expression; (?i) in front ignores case, an empty one ends it"),
            ("n N", "next, previous match"),
            ("f", "filter by reward: >0.5  >=0.5  <1  <=1  =0  !=0, errors, truncated; several together; an empty one ends it"),
            ("s S", "sort by the next column; reverse the order"),
            ("h", "list both splits, training, held-out; in a step: go to the held-out evaluation before it, and back"),
            ("r", "read again; new steps appear by themselves"),
        ),
    ),
    (
        "In a step",
        (
            ("t T", "next, previous step, at the same problem; else at the same group"),
            ("} {", "next, previous group"),
        ),
    ),
    (
        "In a group",
        (
            ("] [", "next, previous completion of the group"),
            ("c", "colour the tokens: by advantage, mismatch, entropy, sampled probability, not at all"),
            ("y", "copy the completion to the clipboard (OSC 52: most terminals take it, over ssh as well)"),
            ("J K", "scroll the text beside the list; space or Ctrl-D, and Ctrl-U, by half pages; Tab gives it all keys"),
        ),
    ),
    (
        "Colours",
        (
            ("text", "thinking cyan, answer green, what the prompt had prefilled underlined"),
            ("advantage", "of the completion, the same for each of its tokens: blue above zero, red below"),
            ("mismatch", "|old - rollout| log-probability: the learner's before the step against what the engine sampled with"),
            ("entropy", "of the distribution that the learner gives the token's place, in nats"),
            ("probability", "that the token was sampled with, at the run's temperature: the lighter, the less likely"),
        ),
    ),
)


class HelpScreen(ModalScreen[None]):
    """The keys, over the screen that asked for them."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", show=False)]

    def compose(self) -> ComposeResult:
        """One text."""
        yield TextPane(id="text")

    def on_mount(self) -> None:
        """Write it."""
        document = Document()
        for title, rows in SECTIONS:
            document.add(f"{title}\n", "bold")
            for key, meaning in rows:
                document.add(f"  {key:12}", "bold cyan")
                document.add(f"{meaning}\n")
            document.add("\n")
        self.query_one(TextPane).show(document)
