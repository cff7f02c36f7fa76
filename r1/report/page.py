"""The page around the content: one file with its style, its scripts and plotly.js, under a policy that lets nothing else run."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from r1.report.content import Content, build_content
from r1.report.figure_spec import SECTIONS
from r1.report.markup import Html, element, escape, folded, joined, json_island

_SCRIPTS = ("theme.js", "figures.js", "folds.js", "samples.js", "printing.js", "start.js")
_LIVE_SCRIPTS = (*_SCRIPTS[:-1], "live.js")


def report_page(paths: Sequence[Path], num_sample_steps: int) -> str:
    """The report of the runs as they are now."""
    content = build_content(paths, num_sample_steps)
    return _page(content.title, content)[0]


def live_page(title: str) -> tuple[str, str]:
    """The page that fetches its content from the server that it came from, again and again; and its security policy."""
    return _page(title, None)


def content_json(content: Content) -> dict[str, object]:
    """The content as the live page's script takes it."""
    return {
        "title": content.title,
        "figures": content.figures,
        "slots": content.slots,
        "samples": [{"key": key, "html": section} for key, section in content.samples],
        "last_step": content.last_step,
        "num_steps": content.num_steps,
        "is_over": content.is_over,
    }


def _page(title: str, content: Content | None) -> tuple[str, str]:
    from plotly.offline import get_plotlyjs

    # A browser takes a carriage return for a line feed, and would then compute another hash.
    scripts = [script.replace("\r", "") for script in (get_plotlyjs(), *(_asset(name) for name in _script_names(content)))]
    policy = content_security_policy(scripts, is_live=content is None)
    holes = {
        "policy": escape(policy),
        "title": escape(f"{title} - r1"),
        "name": escape(title),
        "style": Html(_asset("report.css")),
        "live": element("p", "connecting ...", id="live", role="status") if content is None else Html(),
        "contents": _contents(),
        "slot_headline": _slot("headline", content),
        "slot_config": _slot("config", content),
        "sections": joined(_section(key, content) for key in SECTIONS if key != "rest"),
        "rest": _section("rest", content),
        "samples": joined(section for _, section in content.samples) if content else Html(),
        "figures": json_island(content.figures if content else [], "figures"),
        "scripts": Html("\n".join(f"<script>{script}</script>" for script in scripts)),
    }
    return Template(_asset("report.html")).substitute(holes), policy


def content_security_policy(scripts: Sequence[str], *, is_live: bool) -> str:
    """Only these scripts run, known by their hashes; nothing is loaded, but for the live page from its own server.

    plotly.js styles its elements one by one, which takes 'unsafe-inline' for styles; blob: and data: are its PNG export.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    source = "'self'" if is_live else "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; connect-src {source}; "
        "base-uri 'none'; form-action 'none'"
    )


def _script_names(content: Content | None) -> Sequence[str]:
    return _LIVE_SCRIPTS if content is None else _SCRIPTS


def _asset(name: str) -> str:
    return files("r1.report").joinpath("assets", name).read_text(encoding="utf-8")


def _contents() -> Html:
    """The list of contents; the page's script hides what has nothing to show."""
    sections = {key: heading for key, heading in SECTIONS.items() if key != "rest"}
    named = {"overview": "Overview", **sections, "samples": "Samples", "rest": "Everything else", "config": "Configuration"}
    return element("ul", *(element("li", element("a", heading, href=f"#{key}")) for key, heading in named.items()))


def _section(key: str, content: Content | None) -> Html:
    """A section whose figures the page's script puts in. What is seldom needed, and there is much of it, is folded."""
    slot = {"faults": "faults", "rest": "constants"}.get(key)
    inner: list[object] = [element("div", class_="figures", data_section=key)]
    if key == "rest":
        inner = [folded("figures of the other metrics", *inner, key="rest")]
    return element("section", element("h2", SECTIONS[key]), *inner, _slot(slot, content) if slot else None, id=key)


def _slot(name: str, content: Content | None) -> Html:
    return element("div", content.slots[name] if content else None, data_slot=name)
