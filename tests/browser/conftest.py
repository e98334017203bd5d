import os

import pytest
from chromium import Browser, find


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One Chromium for all browser tests; none on this machine skips them."""
    found = find()
    if not found:
        pytest.skip(
            "there is no Chromium with chromedriver on the PATH, and CHROMIUM and CHROMEDRIVER do not name them"
        )
    # The tests speak to loopback only; a proxy of the environment must not see it.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    opened = Browser(*found, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture
def browser(chromium):
    """The window, at desktop size and in light colours."""
    chromium.screen(width=1280, height=900)
    yield chromium
    chromium.open("about:blank")
