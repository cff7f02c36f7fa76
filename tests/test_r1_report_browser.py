"""The report and the live page as a reader has them: in Chromium."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_browser import headless_browser, resize, wait_for
from report_runs import HOSTILE, learning_events, write_run, write_samples

from r1.cli.printing import printable
from r1.report.live import LiveReport
from r1.report.page import report_page
from r1.report.server import open_server
from r1.traces import list_trace_files

pytestmark = pytest.mark.slow

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
    labels = wait_for(
        lambda: run_js(browser, "return [...document.querySelectorAll(\"[data-key='length'] .hoverlayer text\")].map(t => t.textContent)"),
        "the hover box",
    )
    step = int(labels[0].removeprefix("step "))

    # 20 + step tokens in a step, and the same as its mean of 3 neighbours; the longest has 60.
    assert 1 < step < NUM_STEPS
    assert labels[1:4] == [f"mean : {20 + step}", f"mean : {20 + step} (mean of 3 steps)", "longest : 60"]


def test_the_values_are_there_as_a_table_too(browser: Any, page: Path):
    open_page(browser, page)
    click(browser, "[data-key='length'] summary")
    rows = wait_for(
        lambda: run_js(browser, "return [...document.querySelectorAll(\"[data-key='length'] tr\")].map(r => [...r.cells].map(c => c.textContent))"),
        "the table",
    )

    assert rows[0] == ["step", "mean", "mean", "longest", "held-out"]
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
    # Two questions... of step 1's three samples, and of both steps: an answer and a thinking.
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
    labels = wait_for(
        lambda: run_js(browser, "return [...document.querySelectorAll(\"[data-key='entropy'] .hoverlayer text\")].map(t => t.textContent)"),
        "the hover box",
    )
    assert [label.split(" : ")[0] for label in labels[1:]] == ["<b>first", "second"]


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


@pytest.mark.skipif("R1_REPORT_RUN" not in os.environ, reason="R1_REPORT_RUN=RUN: the report of a real run")
def test_the_report_of_a_real_run(browser: Any, tmp_path: Path):
    run = Path(os.environ["R1_REPORT_RUN"])
    (tmp_path / "report.html").write_text(report_page([run], 6), encoding="utf-8")
    open_page(browser, tmp_path / "report.html")
    num_steps = len(list_trace_files(run, "train"))

    assert drawn_points(browser, "entropy") == [num_steps] * 2
    assert len(shown_samples(browser)) >= 3
