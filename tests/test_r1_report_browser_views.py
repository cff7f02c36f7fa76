"""The report in its other forms: dark, compared, narrow, printed, live."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from headless_browser import resize, wait_for
from report_browser import (
    TOKENS,
    browser,
    click,
    compared,
    drawn_points,
    hover_labels,
    make_run,
    move_to,
    open_page,
    page,
    run_js,
    shown_samples,
    silent_console,
    value_rows,
    wait_until_drawn,
)
from report_runs import learning_events, write_run, write_samples

from r1.report.live import LiveReport
from r1.report.server import open_server

__all__ = ["browser", "compared", "page", "silent_console"]  # fixtures

pytestmark = pytest.mark.slow


def test_light_and_dark_colour_page_and_figures(browser: Any, page: Path):
    open_page(browser, page)
    colours = (
        "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.figure')).color,"
        " getComputedStyle(document.querySelector(\"[data-key='entropy'] path.js-line\")).stroke,"
        " getComputedStyle(document.querySelector(\"[data-key='entropy'] .xtick text\")).fill]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    light = wait_for(lambda: [c := run_js(browser, colours), c[0] == "rgb(245, 246, 248)"][1] and c, "light colours")
    click(browser, "#theme")
    wait_until_drawn(browser)
    dark = run_js(browser, colours)
    assert light[2:] == ["rgb(0, 114, 178)", "rgb(26, 31, 39)"]
    assert dark == ["rgb(14, 17, 22)", "rgb(231, 234, 239)", "rgb(86, 180, 233)", "rgb(231, 234, 239)"]

    click(browser, "#theme")
    wait_until_drawn(browser)
    assert run_js(browser, colours) == light

    # The system's own wish, where the reader has not chosen.
    run_js(browser, "window.localStorage.clear()")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    open_page(browser, page)
    assert run_js(browser, colours) == dark
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_compared_runs_share_each_figure(browser: Any, compared: Path):
    open_page(browser, compared)
    runs = run_js(
        browser,
        "return [...document.querySelectorAll('.figure')].filter(f => f.offsetParent).map(f =>"
        " [...new Set(f.querySelector('.plot').data.map(t => t.meta.run).filter(r => r !== null))])",
    )
    options = run_js(browser, "return [...document.querySelectorAll('.options tr')].map(r => [...r.cells].map(c => c.textContent))")

    assert len(runs) > 10
    assert all(of_figure == [0, 1] for of_figure in runs)
    assert drawn_points(browser, "entropy") == [12, 12, 10, 10]
    assert options == [["option", "<b>first", "second"], ["seed", "0", "7"], ["learner.learning_rate", "0.001", "0.002"]]
    # A run's name is no markup for plotly either.
    move_to(browser, "[data-key='entropy'] .plot", 0.55)
    labels = hover_labels(browser, "entropy")
    assert [label.split(" : ")[0] for label in labels[1:]] == ["<b>first", "second"]


def test_the_values_of_compared_phases_are_headed_by_what_they_are(browser: Any, compared: Path):
    open_page(browser, compared)
    rows = value_rows(browser, "phases")

    assert rows == [["phase", "<b>first", "second"], ["sample", "2", "2"], ["update", "1", "1"]]


def test_a_run_can_be_hidden_in_all_figures(browser: Any, compared: Path):
    open_page(browser, compared)
    shown = (
        "return [...new Set([...document.querySelectorAll('.figure')].filter(f => f.offsetParent).flatMap(f =>"
        " f.querySelector('.plot').data.filter(t => t.visible).map(t => t.meta.run)))].filter(r => r !== null)"
    )
    assert run_js(browser, shown) == [0, 1]
    click(browser, "button[data-run='0']")
    wait_until_drawn(browser)
    assert run_js(browser, shown) == [1]
    assert run_js(browser, "return document.querySelector(\"button[data-run='0']\").getAttribute('aria-pressed')") == "false"
    click(browser, "button[data-run='0']")
    wait_until_drawn(browser)
    assert run_js(browser, shown) == [0, 1]


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_page(browser: Any, compared: Path, width: int):
    resize(browser, width, 900)
    open_page(browser, compared)

    assert run_js(browser, "return document.documentElement.scrollWidth") == width
    widths = run_js(browser, "return [...document.querySelectorAll('.figure')].filter(f => f.offsetParent).map(f => f.clientWidth)")
    assert min(widths) > 300
    assert max(run_js(browser, "return [...document.querySelectorAll('.plot .main-svg')].map(s => s.getBoundingClientRect().right)")) < width


def test_everything_can_be_reached_with_the_keyboard(browser: Any, page: Path):
    open_page(browser, page)
    reached = []
    for _ in range(200):
        browser.switch_to.active_element.send_keys("\ue004")  # tab
        reached.append(run_js(browser, "const e = document.activeElement; return e.id || e.className || e.tagName"))
        if reached[-1] == "fold":
            break

    assert reached[0] == "skip"
    assert [name for name in reached if name in ("theme", "print")] == ["theme", "print"]
    assert {"look solid", "look dot", "SUMMARY", "filter", "unfold", "fold"} <= set(reached)


def test_printing_is_light_and_whole(browser: Any, page: Path, tmp_path: Path):
    open_page(browser, page)
    run_js(browser, "R1.setTheme('dark')")
    wait_until_drawn(browser)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])

    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 20
    # What the page looks like to the printer: the styles of print, as the events around it leave the figures.
    run_js(browser, "window.dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    resize(browser, 718, 1000)  # A4 without its margins
    state = run_js(
        browser,
        "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.tools')).display, getComputedStyle(document.querySelector('nav')).display,"
        " document.querySelector(\"[data-key='entropy'] .main-svg\").getAttribute('width'),"
        " getComputedStyle(document.querySelector('.figure')).breakInside, document.documentElement.scrollWidth]",
    )
    assert state == ["rgb(255, 255, 255)", "none", "none", "315", "avoid", 718]
    answers = run_js(browser, "return [...document.querySelectorAll('.sample .answer')].filter(a => a.offsetParent).length")
    assert answers == 6
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    run_js(browser, "window.dispatchEvent(new Event('afterprint'))")
    assert run_js(browser, "return document.documentElement.dataset.theme") == "dark"


def test_the_live_page_follows_the_run_and_keeps_what_the_reader_has_done(browser: Any, tmp_path: Path):
    from selenium.webdriver import ActionChains

    run = make_run(tmp_path / "run", num_steps=8)
    server = open_server(LiveReport([run], 6), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    status = "return document.getElementById('live').textContent"
    try:
        browser.get(server.url)
        wait_for(lambda: run_js(browser, status).startswith("last step 8 of 12, "), "the first answer")
        wait_until_drawn(browser)
        run_js(browser, "document.querySelector('#sample-list details').open = true")
        move_to(browser, TOKENS, 0.4)
        ActionChains(browser).click_and_hold().move_by_offset(80, 0).release().perform()
        zoom = "return document.querySelector(\"[data-key='length'] .plot\").layout.xaxis.range"
        zoomed = wait_for(lambda: run_js(browser, zoom), "the zoom")
        scrolled = run_js(browser, "return window.scrollY")
        assert scrolled > 0

        # A step more, with samples, and a metric that was not there before.
        events = learning_events(9)
        events[-2]["metrics"]["faults/learner"] = 1.0
        write_samples(run, 9, ["the ninth"], [1.0])
        write_run(run, events, "num_steps=12")
        wait_for(lambda: run_js(browser, status).startswith("last step 9 of 12, "), "the next step")
        wait_until_drawn(browser)

        length = "return document.querySelector(\"[data-key='length'] .plot\").data[0].x.length"
        assert run_js(browser, length) == 9
        assert run_js(browser, zoom) == pytest.approx(zoomed)
        assert run_js(browser, "return window.scrollY") == scrolled
        assert run_js(browser, "return document.querySelector('#sample-list details').open") is True
        assert run_js(browser, "return document.querySelectorAll(\"[data-key='faults'] path.js-line, [data-key='faults'] .point\").length") > 0
        assert run_js(browser, "return document.querySelector('.tiles').innerText.includes('9 of 12')")
        assert any("the ninth" in text for text in shown_samples(browser))
        assert run_js(browser, "return typeof window.hacked") == "undefined"

        run_js(browser, "document.querySelector('[data-fold=config-0]').open = true")
        ended = {"steps": 9, "total_s": 30.0, "faults": ["<b>late</b>"], "versions": {"python": "3.11.7"}}
        (run / "summary.json").write_text(json.dumps(ended))
        wait_for(lambda: run_js(browser, status).startswith("ended, last step 9"), "the end")
        assert run_js(browser, "return document.querySelector('.faults').innerText").strip() == "<b>late</b>"
        # The versions came into the part that was open.
        assert run_js(browser, "return document.querySelector('[data-fold=versions-0] td').textContent") == "3.11.7"
        assert run_js(browser, "return document.querySelector('[data-fold=config-0]').open") is True
        assert browser.get_log("browser") == []
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    wait_for(lambda: run_js(browser, status).startswith("not reachable, last heard of it "), "the word that the server is gone")
    assert {entry["source"] for entry in browser.get_log("browser")} == {"network"}
    browser.get("about:blank")  # or it would go on asking
