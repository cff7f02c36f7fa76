"""A real Chromium without a window, for the tests of pages."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 60.0  # for what the page does by itself; a busy machine with two cores draws 20 figures in 5 s

_OPTIONS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "hide-scrollbars", "window-size=1600,1000"),
)


@contextmanager
def headless_browser(profile: Path) -> Iterator[Any]:
    """A selenium driver; without selenium or a browser the tests are skipped, or fail where R1_REQUIRE_BROWSER is 1."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    missing = [name for name, path in (("chromedriver", driver), ("chromium", chromium)) if path is None]
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing.append("selenium")
    if missing:
        say = pytest.fail if os.environ.get("R1_REQUIRE_BROWSER") == "1" else pytest.skip
        say(f"no browser to test with: {', '.join(missing)} not found")
    options = webdriver.ChromeOptions()
    for option in (*_OPTIONS, f"user-data-dir={profile}"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = chromium
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Ask until it is true, and return it."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain for {what}"
        time.sleep(0.05)
    return value


def resize(browser: Any, width: int, height: int) -> None:
    """The size of the page, not of the window."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
