"""The content of the live page, built once for each change of a run's files."""

import gzip
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1.errors import UserError
from r1.report.content import build_content
from r1.report.page import content_json, live_page
from r1.report.runs import load_runs

WATCHED = ("metrics.jsonl", "summary.json", "config.json")
"""A trace file is written before the metrics of its step."""
_GZIP_LEVEL = 5  # the page's 5 MB become 1.5 in 0.1 s


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """The content at one state of the files."""

    version: str
    """Differs whenever the files did."""
    state: str
    """The members of the answer's JSON object that stay the same: last step and others, without the braces."""
    content: str
    """JSON."""


class LiveReport:
    """What the server answers. Its methods are called by many threads."""

    def __init__(self, runs: Sequence[Path], num_sample_steps: int) -> None:
        """Raises `UserError` for folders that are no runs; a run that has not finished a step yet is one."""
        self._runs, self._num_sample_steps = runs, num_sample_steps
        title = " / ".join(run.label for run in load_runs(runs, may_be_empty=True))
        text, self.page_policy = live_page(title)
        page = text.encode()
        self.page, self.zipped_page = page, gzip.compress(page, _GZIP_LEVEL)
        self._lock = threading.Lock()
        self._built: Built | None = None
        self._problem: str | None = None

    def answer(self, have: str) -> bytes:
        """The state as JSON, with the content unless the page has this version of it already.

        {"version", "last_step", "num_steps", "is_over", "age_s", "problem", "content"}; age_s: seconds since a run has
        written its metrics, null where none has; problem: why the content is older than the files, or null.
        """
        with self._lock:
            # Two pages that ask at once share one build.
            self._refresh()
            built, problem = self._built, self._problem
        own = json.dumps({"version": built.version if built else "", "age_s": self._age_s(), "problem": problem})
        if built is None:
            return own.encode()
        content = built.content if built.version != have else "null"
        return f'{own[:-1]}, {built.state}, "content": {content}}}'.encode()

    def _refresh(self) -> None:
        version = self._version()
        if self._built is not None and self._built.version == version:
            self._problem = None
            return
        try:
            content = content_json(build_content(self._runs, self._num_sample_steps, may_be_empty=True))
        except UserError as error:  # a folder moved away, a trace file removed by a run that goes back: it may pass
            self._problem = str(error)
            return
        state = {name: content[name] for name in ("last_step", "num_steps", "is_over")}
        # < and > are escaped for those who open the address in a tab, whatever they think of content types.
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
        self._built, self._problem = Built(version=version, state=json.dumps(state)[1:-1], content=text), None

    def _version(self) -> str:
        stats = [_stat(run / name) for run in self._runs for name in WATCHED]
        return "-".join(f"{modified_ns:x}.{size:x}" for modified_ns, size in stats)

    def _age_s(self) -> float | None:
        written_ns = max(_stat(run / "metrics.jsonl")[0] for run in self._runs)
        return max(0.0, time.time() - written_ns / 1e9) if written_ns else None


def _stat(path: Path) -> tuple[int, int]:
    """(modified_ns, size), zeros for a file that is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size
