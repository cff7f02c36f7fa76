"""The pages of hand-written runs in a browser: fixtures and helpers of their tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_browser import headless_browser, resize, wait_for
from report_runs import HOSTILE, learning_events, write_run, write_samples

from r1.report.page import report_page

NUM_STEPS = 12
TOKENS = "[data-key='length'] .plot"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with headless_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def silent_console(browser: Any) -> Iterator[None]:
    """No test may leave anything in the console: neither an error, nor a warning, nor what the security policy has blocked."""
    resize(browser, 1600, 1000)
    browser.get_log("browser")
    yield
    assert browser.get_log("browser") == []


def make_run(path: Path, *overrides: str, num_steps: int = NUM_STEPS) -> Path:
    run = write_run(path, learning_events(num_steps), "num_steps=12", *overrides)
    for step in (1, num_steps):
        write_samples(
            run,
            step,
            [f"<think>the carry of step {step}</think><answer>19</answer>", HOSTILE, f"<think>{HOSTILE}</think>no answer"],
            [1.0, 0.5, 0.0],
            question=HOSTILE if step == 1 else "12+7=",
        )
    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(report_page([make_run(folder / "run")], 6), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    runs = [make_run(folder / "<b>first"), make_run(folder / "second", "seed=7", "learner.learning_rate=0.002", num_steps=10)]
    (folder / "report.html").write_text(report_page(runs, 6), encoding="utf-8")
    return folder / "report.html"


def run_js(browser: Any, script: str, *arguments: Any) -> Any:
    return browser.execute_script(script, *arguments)


def open_page(browser: Any, path: Path) -> None:
    browser.get(path.as_uri())
    wait_until_drawn(browser)


def wait_until_drawn(browser: Any) -> None:
    wait_for(lambda: run_js(browser, "return document.documentElement.dataset.drawn === 'yes'"), "the figures")


def hover_labels(browser: Any, key: str) -> list[str]:
    """The texts of a figure's hover box, once it is there."""
    script = f"return [...document.querySelectorAll(\"[data-key='{key}'] .hoverlayer text\")].map(t => t.textContent)"
    return wait_for(lambda: run_js(browser, script), "the hover box")


def value_rows(browser: Any, key: str) -> list[list[str]]:
    """The table of a figure's values, unfolded: its rows, the heading first."""
    click(browser, f"[data-key='{key}'] summary")
    script = f"return [...document.querySelectorAll(\"[data-key='{key}'] tr\")].map(r => [...r.cells].map(c => c.textContent))"
    return wait_for(lambda: run_js(browser, script), "the table")


def click(browser: Any, selector: str) -> None:
    browser.find_element("css selector", selector).click()


def move_to(browser: Any, selector: str, x_share: float) -> None:
    """Put the mouse into the plot of a figure, this share of its width from the left."""
    from selenium.webdriver import ActionChains

    element = browser.find_element("css selector", selector)
    run_js(browser, "arguments[0].scrollIntoView({block: 'center'})", element)
    offset = round((x_share - 0.5) * element.size["width"])
    ActionChains(browser).move_to_element_with_offset(element, offset, 0).perform()


def drawn_points(browser: Any, key: str) -> list[int]:
    """How many points the path of each line of a figure has in the SVG: "M0,9L5,8L9,2" has three."""
    paths = run_js(browser, f"return [...document.querySelectorAll(\"[data-key='{key}'] .lines path.js-line\")].map(p => p.getAttribute('d'))")
    return [sum(path.count(letter) for letter in "ML") + 0 for path in paths]


def shown_samples(browser: Any) -> list[str]:
    return run_js(browser, "return [...document.querySelectorAll('.sample')].filter(s => s.offsetParent).map(s => s.innerText)")
