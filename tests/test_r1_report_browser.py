"""The report as a reader has it: figures and samples in Chromium."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from headless_browser import wait_for
from report_browser import (
    NUM_STEPS,
    TOKENS,
    browser,
    click,
    drawn_points,
    hover_labels,
    move_to,
    open_page,
    page,
    run_js,
    shown_samples,
    silent_console,
    value_rows,
)
from report_runs import HOSTILE

from r1.cli.printing import printable
from r1.report.page import report_page
from r1.traces import list_trace_files

__all__ = ["browser", "page", "silent_console"]  # fixtures

pytestmark = pytest.mark.slow


def test_every_figure_is_drawn_with_every_point(browser: Any, page: Path):
    open_page(browser, page)
    keys = run_js(browser, "return [...document.querySelectorAll('.figure')].filter(f => f.offsetParent).map(f => f.dataset.key)")
    in_island = json.loads(run_js(browser, "return document.getElementById('figures').textContent"))

    assert keys == [figure["key"] for figure in in_island if figure["section"] != "rest"]
    assert {"accuracy", "length", "format", "reward", "entropy", "mismatch", "clip", "grad-norm", "phases"} <= set(keys)
    # Accuracy: each step and their mean, 12 points each; held-out two points.
    assert drawn_points(browser, "entropy") == [NUM_STEPS, NUM_STEPS]
    num_markers = run_js(browser, "return document.querySelectorAll(\"[data-key='accuracy'] .points path.point\").length")
    num_errors = run_js(browser, "return document.querySelectorAll(\"[data-key='accuracy'] path.yerror\").length")
    assert (num_markers, num_errors) == (2, 2)
    # Two phases in each step.
    assert run_js(browser, "return document.querySelectorAll(\"[data-key='phases'] .bars .point\").length") == 2 * NUM_STEPS


def test_the_mouse_shows_the_values_of_a_step(browser: Any, page: Path):
    open_page(browser, page)
    move_to(browser, TOKENS, 0.55)
    labels = hover_labels(browser, "length")
    step = int(labels[0].removeprefix("step "))

    # 20 + step tokens in a step, and the same as its mean of 3 neighbours; the longest has 60.
    assert 1 < step < NUM_STEPS
    assert labels[1:4] == [f"mean : {20 + step}", f"mean : {20 + step} (mean of 3 steps)", "longest : 60"]


def test_at_the_ends_a_mean_is_of_fewer_steps_and_says_so(browser: Any, page: Path):
    open_page(browser, page)
    axis = "const plot = document.querySelector(arguments[0]), axis = plot._fullLayout.xaxis;"
    move_to(browser, TOKENS, run_js(browser, axis + "return (axis._offset + axis.d2p(1)) / plot.clientWidth", TOKENS))
    labels = hover_labels(browser, "length")

    # 21 and 22
    assert labels[:3] == ["step 1", "mean : 21", "mean : 21.5 (mean of 2 steps)"]


def test_the_values_are_there_as_a_table_too(browser: Any, page: Path):
    open_page(browser, page)
    rows = value_rows(browser, "length")

    assert rows[0] == ["step", "mean", "mean, smoothed", "longest", "held-out"]
    assert rows[1] == ["0", "", "", "", "20"]
    # The mean at the first step: of 21 and 22
    assert rows[2] == ["1", "21", "21.5", "60", ""]
    assert len(rows) == 1 + 1 + NUM_STEPS


def test_an_entry_of_a_legend_hides_its_line(browser: Any, page: Path):
    open_page(browser, page)
    visible = "return document.querySelector(\"[data-key='length'] .plot\").data.map(t => t.visible)"
    # mean and its mean, longest, held-out, limit
    assert run_js(browser, visible) == [True] * 5
    click(browser, "[data-key='length'] .legend li:nth-child(2) button")
    assert run_js(browser, visible) == [True, True, False, True, True]
    click(browser, "[data-key='length'] .legend li:nth-child(2) button")
    assert run_js(browser, visible) == [True] * 5


def test_thinking_is_folded_and_unfolds(browser: Any, page: Path):
    open_page(browser, page)
    folds = "return [...document.querySelectorAll('#sample-list details')].map(d => d.open)"
    assert run_js(browser, folds) == [False] * 4
    assert not any("the carry of" in text for text in shown_samples(browser))
    assert any("<answer>19</answer>" in text for text in shown_samples(browser))

    run_js(browser, "document.querySelector('#sample-list summary').scrollIntoView({block: 'center'})")
    click(browser, "#sample-list summary")
    assert run_js(browser, folds) == [True, False, False, False]
    assert any("the carry of step 1" in text for text in shown_samples(browser))

    click(browser, "#unfold")
    assert run_js(browser, folds) == [True] * 4
    click(browser, "#fold")
    assert run_js(browser, folds) == [False] * 4


def test_the_filter_finds_plain_text_and_opens_what_holds_it(browser: Any, page: Path):
    open_page(browser, page)
    assert len(shown_samples(browser)) == 6
    box = browser.find_element("css selector", "#filter")
    found = "return document.querySelector('#found').textContent"

    box.send_keys("CARRY OF STEP 12")
    assert run_js(browser, found) == "1 of 6 samples"
    (text,) = shown_samples(browser)
    assert "the carry of step 12" in text
    assert run_js(browser, "return CSS.highlights.get('found').size") == 1
    # The heading of the step without a match is gone as well.
    assert run_js(browser, "return [...document.querySelectorAll('.step')].map(s => s.hidden)") == [True, False]

    box.clear()
    box.send_keys("</script><!--")  # no regular expression, no markup
    assert run_js(browser, found) == "5 of 6 samples"
    box.clear()
    box.send_keys("nowhere in the run")
    assert run_js(browser, found) == "0 of 6 samples"
    for _ in range(30):
        box.send_keys("\ue003")  # backspace
    assert run_js(browser, found) == "6 samples"
    assert run_js(browser, "return document.querySelectorAll('#sample-list details[open]').length") == 0


def test_hostile_text_is_shown_and_does_nothing(browser: Any, page: Path):
    open_page(browser, page)
    click(browser, "#unfold")

    assert run_js(browser, "return typeof window.hacked") == "undefined"
    # The questions of the three samples of step 1; in both steps an answer and a thinking.
    spelt = printable(HOSTILE)
    texts = run_js(browser, "return [...document.querySelectorAll('.sample pre')].map(p => p.textContent)")
    assert sum(spelt in text for text in texts) == 3 + 2 + 2
    assert run_js(browser, "return document.querySelectorAll('main img, #sample-list svg, #sample-list a, main script').length") == 0
    # Bidirectional controls are spelt out: nothing on the page reverses.
    assert "\\u202e" in spelt
    assert not run_js(browser, "return /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent)")


def test_even_unescaped_markup_could_not_run_a_script(browser: Any, page: Path, tmp_path: Path):
    # As if the escaping had a hole: the policy is the second wall.
    broken = page.read_text(encoding="utf-8").replace(
        '<section id="config">', "<img src=x onerror='window.hacked=1'><script>window.hacked = 2</script><section id=\"config\">"
    )
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    open_page(browser, tmp_path / "broken.html")

    assert run_js(browser, "return typeof window.hacked") == "undefined"
    blocked = [entry["message"] for entry in browser.get_log("browser")]
    assert len(blocked) >= 2
    assert all("Content Security Policy" in message for message in blocked)


def test_a_figure_is_saved_as_svg_and_never_shared(browser: Any, page: Path, tmp_path: Path):
    from selenium.webdriver import ActionChains

    open_page(browser, page)
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    move_to(browser, TOKENS, 0.5)
    titles = run_js(browser, "return [...document.querySelectorAll(\"[data-key='length'] .modebar-btn\")].map(b => b.dataset.title)")
    button = browser.find_element("css selector", "[data-key='length'] .modebar-btn[data-title='Save as SVG']")
    ActionChains(browser).move_to_element(button).click().perform()
    svg = wait_for(lambda: next(iter(tmp_path.glob("length*.svg")), None), "the file").read_text(encoding="utf-8")

    # Among plotly's own buttons is one that would send the figure to its makers' cloud.
    assert titles == ["Save as SVG", "Zoom", "Pan", "Reset axes"]
    assert "Response length" in svg
    assert "held-out" in svg


@pytest.mark.ray
def test_the_report_of_a_real_run(browser: Any, tmp_path: Path, request: pytest.FixtureRequest):
    """R1_REPORT_RUN names another one."""
    run = Path(os.environ["R1_REPORT_RUN"]) if "R1_REPORT_RUN" in os.environ else request.getfixturevalue("trained_run")
    (tmp_path / "report.html").write_text(report_page([run], 6), encoding="utf-8")
    open_page(browser, tmp_path / "report.html")
    num_steps = len(list_trace_files(run, "train"))

    assert drawn_points(browser, "entropy") == [num_steps] * 2
    assert len(shown_samples(browser)) >= 3
