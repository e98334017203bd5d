"""A headless Chromium that tells what the page printed and requested."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--no-proxy-server",
)


class Browser:
    """One window. `driver` is Selenium's."""

    def __init__(self, chromium: str, chromedriver: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*_FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(chromedriver))
        self.driver.set_page_load_timeout(60)

    def open(self, url: str) -> None:
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, seconds: float = 20) -> object:
        """What the script returns, once that is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not true after {seconds} s: {script}; the console says {self.console()}"
            time.sleep(0.05)
        return value

    def console(self) -> list[str]:
        """Warnings and errors since open()."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """The addresses that the page asked for since open(), of any scheme."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def screen(self, *, width: int, height: int, dark: bool = False) -> None:
        """Be a screen of this size, in CSS pixels, and colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One Chromium for all browser tests; none on this machine skips them."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    if not browser or not chromedriver:
        pytest.skip("there is no Chromium with chromedriver on the PATH, and CHROMIUM and CHROMEDRIVER do not name them")
    # The tests speak to loopback only; a proxy of the environment must not see it.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    opened = Browser(browser, chromedriver, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.driver.quit()


@pytest.fixture
def browser(chromium):
    """The window, at desktop size and in light colours."""
    chromium.screen(width=1280, height=900)
    yield chromium
    chromium.open("about:blank")
