from datetime import UTC, datetime

import by_pandas

from dashboards.plots import collection


def test_the_index_shows_every_plot(browser, tmp_path):
    """The index page loads each of its pictures, of the size it announced, says nothing on the console and asks nobody
    else.
    """
    results = by_pandas.results(by_pandas.daily_prices().query("symbol in ['AAPL', 'FB']"))
    count = collection.write(results, tmp_path, now=datetime(2026, 11, 21, tzinfo=UTC))
    browser.open((tmp_path / "index.html").as_uri())
    browser.run("document.querySelectorAll('img').forEach(img => img.loading = 'eager')")
    browser.wait("return [...document.images].every(img => img.complete)")
    sizes = browser.run("""
        const announced = (image) => ['width', 'height'].map(name => image.getAttribute(name));
        return [...document.images].map(image => [image.naturalWidth, image.naturalHeight, ...announced(image)])""")
    assert len(sizes) == count > 20
    assert all(
        width == int(announced) and abs(height - int(announced_height)) <= 1
        for width, height, announced, announced_height in sizes
    )
    assert browser.console() == []
    assert {url.split(":")[0] for url in browser.requests()} == {"file"}
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
