"""A headless Chromium for the tests of pages: selenium and Debian's chromium with its driver."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

WIDE, NARROW = (1400, 1000), (420, 900)
PATIENCE = 240  # seconds; programs may compile meanwhile


@contextlib.contextmanager
def opened(size: tuple[int, int] = WIDE) -> Iterator:
    """A browser with a window of `size`; skips the test, with the reason, where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install 'cldis_jax[browser]'")
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and binary):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "force-device-scale-factor=1"):
        options.add_argument(f"--{word}")
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.set_page_load_timeout(PATIENCE)
    browser.set_script_timeout(PATIENCE)
    try:
        yield browser
    finally:
        browser.quit()


def errors(browser) -> list[str]:
    """What the console of the page calls an error, since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def wait(found: Callable[[], object], what: str, seconds: float = PATIENCE) -> object:
    """The first true result of `found`; fails after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")
