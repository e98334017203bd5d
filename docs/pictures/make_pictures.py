"""Make the README's pictures from what `make demo` has landed: report, plots, live page and a terminal at work.

python -m local run python docs/pictures/make_pictures.py            all of them
python -m local run python docs/pictures/make_pictures.py live       one of: report plots live terminal
"""

import html
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/browser")]

from chromium import Browser, find  # noqa: E402

LIVE_SECONDS = 25
TERMINAL = """<!doctype html><meta charset=utf-8><style>
body { margin: 0; background: #14171c; color: #d7dce2; font: 14px/1.45 'DejaVu Sans Mono', monospace; }
pre { margin: 0; padding: 18px 22px; white-space: pre-wrap; }
b { color: #5fcf8a; }
</style><pre>LINES</pre>"""
DRAWN = "return document.documentElement.dataset.drawnMs"


def main() -> None:
    made = {"report": report, "plots": plots, "live": live, "terminal": terminal}
    wanted = sys.argv[1:] or list(made)
    if not (found := find()):
        sys.exit("Chromium and chromedriver are needed: on the PATH, or named by CHROMIUM and CHROMEDRIVER")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(*found, Path(folder) / "profile")
        try:
            for name in wanted:
                made[name](browser, Path(folder))
        finally:
            browser.close()
    for path in (path for name in wanted for path in HERE.glob(f"{name}*.png")):
        # 256 colours, chosen so that thin lines keep theirs, take a third of the bytes.
        colours = {"method": Image.Quantize.MAXCOVERAGE, "kmeans": 1, "dither": Image.Dither.NONE}
        Image.open(path).convert("RGB").quantize(256, **colours).save(path, optimize=True)
        print(path.relative_to(ROOT), path.stat().st_size)


def run(*arguments: str) -> str:
    """Run one of our commands to its end and return what it printed."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def report(browser: Browser, folder: Path) -> None:
    """Take the report on a desktop, and on a phone in dark colours."""
    page = folder / "report.html"
    run("-m", "dashboards.report", "--output", str(page))
    for name, width, height, dark in (("report", 1280, None, False), ("report-phone-dark", 390, 1700, True)):
        browser.screen(width=width, height=900, dark=dark)
        browser.open(page.as_uri())
        browser.wait(DRAWN)
        browser.picture(HERE / f"{name}.png", height=height)


def plots(browser: Browser, folder: Path) -> None:
    """Take the top of the index page."""
    run("-m", "dashboards.plots", "--output", str(folder / "plots"))
    browser.screen(width=1280, height=900)
    browser.open((folder / "plots/index.html").as_uri())
    browser.run("document.querySelectorAll('img').forEach(img => img.loading = 'eager')")
    browser.wait("return [...document.images].every(img => img.complete)")
    browser.picture(HERE / "plots.png", height=1300)


def live(browser: Browser, folder: Path) -> None:
    """Take the live page after some seconds of simulated ticks."""
    log = folder / "live.log"
    with log.open("w") as output:
        page = subprocess.Popen(
            [sys.executable, "-u", "-m", "dashboards.live", "--port", "0", "--last", "0"], cwd=ROOT, stdout=output
        )
        ticks = subprocess.Popen(
            [sys.executable, "producer.py", "simulate", "--rate", "100"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        while not (address := re.search(r"http://\S+", log.read_text())):
            if page.poll() is not None:
                sys.exit("dashboards.live has stopped")
            time.sleep(0.2)
        browser.screen(width=1000, height=600)
        browser.open(address[0])
        browser.wait("return document.querySelectorAll('#quotes tr').length > 5", seconds=60)
        time.sleep(LIVE_SECONDS)
        browser.picture(HERE / "live.png")
    finally:
        for process in (ticks, page):
            process.terminate()
            process.wait(30)


def terminal(browser: Browser, folder: Path) -> None:
    """Take real commands with what they print, once the live page's ticks have landed too."""
    run("consumer.py", "--until-caught-up")
    commands = ("consumer.py verify", "-m pipeline.athena volume_by_ticker")
    lines = []
    for command in commands:
        shown = "python " + command
        lines += [f"<b>$ {html.escape(shown)}</b>", html.escape(run(*command.split()).rstrip()), ""]
    page = folder / "terminal.html"
    page.write_text(TERMINAL.replace("LINES", "\n".join(lines).rstrip()), encoding="utf-8")
    browser.screen(width=960, height=200)
    browser.open(page.as_uri())
    browser.picture(HERE / "terminal.png")


if __name__ == "__main__":
    main()
