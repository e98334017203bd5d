import re
import threading
import time
import urllib.request

import pytest
from committed import committed_values

from dashboards.live.__main__ import follow
from dashboards.live.market import Market
from dashboards.live.server import Server
from pipeline import records
from pipeline.settings import ServiceError


def _value(symbol, price, time_text, volume=1.0):
    return records.encode(
        records.Tick(symbol=symbol, price=price, time=time_text, volume=volume, source="test", ingested_at=time_text)
    )


def _time(second, milli=0):
    return f"2026-11-20 15:00:{second:02d}.{milli:03d}"


@pytest.fixture
def market():
    return Market()


@pytest.fixture
def server(market):
    with Server(0, market) as running:
        yield running


def test_a_late_tick_is_counted_and_does_not_turn_the_price_back(market):
    """The last price is that of the latest time; change is since the first tick; one point a second."""
    market.add(
        [
            _value("A", 10, _time(1)),
            _value("A", 12, _time(3)),
            _value("A", 11, _time(2)),
            _value("A", 13, _time(3, 500)),
        ],
        now=0,
    )
    (quote,) = market.snapshot(now=0)["quotes"]
    assert (quote["price"], quote["first_price"], quote["ticks"], quote["points"]) == (13, 10, 4, [10, 13])


def test_the_rate_is_of_the_last_seconds(market):
    """Messages a second count the last five seconds, by the clock of arrival, and fall to zero when nothing comes."""
    for second in range(10):
        market.add([_value("A", 10, _time(second))] * 20, now=second)
    assert market.snapshot(now=9)["rate"] == 20
    assert market.snapshot(now=12)["rate"] == 8
    assert market.snapshot(now=20) | {"quotes": []} == {
        "version": 10,
        "is_whole": True,
        "messages": 200,
        "bad": 0,
        "rate": 0,
        "quiet_seconds": 11,
        "problem": "",
        "quotes": [],
    }


def test_a_message_that_is_no_tick_is_counted(market):
    """Broken messages, and tombstones, are counted as bad; the others of their poll are shown."""
    market.add([_value("A", 10, _time(1)), b"{", b"", _value("B", 20, _time(1))], now=0)
    snapshot = market.snapshot(now=0)
    assert (snapshot["messages"], snapshot["bad"], len(snapshot["quotes"])) == (4, 2, 2)


def test_a_snapshot_holds_what_changed_after_a_version(market):
    """A page that has version 1 gets only the tickers of later ticks; a new page gets all."""
    market.add([_value("A", 10, _time(1))], now=0)
    market.add([_value("B", 20, _time(1))], now=0)
    assert [quote["symbol"] for quote in market.snapshot(now=0, after=1)["quotes"]] == ["B"]
    assert len(market.snapshot(now=0)["quotes"]) == 2


def test_only_the_wanted_tickers_are_kept():
    """With --symbols the others are counted as messages and shown nowhere."""
    market = Market(["B"])
    market.add([_value("A", 10, _time(1)), _value("B", 20, _time(1))], now=0)
    snapshot = market.snapshot(now=0)
    assert (snapshot["messages"], [quote["symbol"] for quote in snapshot["quotes"]]) == (2, ["B"])


def test_the_server_listens_on_loopback_and_answers_this_machine_only(server):
    """A request under another name than 127.0.0.1 or localhost is refused: another site's page cannot read the feed."""
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(
            urllib.request.Request(server.address + "events", headers={"Host": "evil.example:80"}), timeout=5
        )


def test_a_taken_port_is_an_error_that_names_the_option(server):
    """The message names --port."""
    with pytest.raises(ServiceError, match=f"--port {server.server_port}"):
        Server(server.server_port, Market())


def _table(browser):
    return browser.run("""
        const texts = (row) => [...row.cells].map(cell => cell.innerText.trim());
        const rows = [...document.querySelectorAll('#quotes tr')];
        return Object.fromEntries(rows.map(row => [row.dataset.symbol, texts(row)]))""")


def test_the_page_shows_what_comes(browser, server, market):
    """New tickers appear in order, prices and changes follow the ticks, the sparkline has a point a second; where the
    close before today is known, the change is since it.
    """
    market.add([_value("MSFT", 40, _time(1)), _value("AAPL", 100, _time(1))], now=time.monotonic())
    browser.open(server.address)
    browser.wait("return document.querySelectorAll('#quotes tr').length === 2")
    market.add(
        [_value("AAPL", 101.5, _time(2)), _value("AAPL", 102.5, _time(3)), _value("MSFT", 39, _time(2))],
        now=time.monotonic(),
    )
    browser.wait("return document.querySelector('[data-symbol=AAPL] .price').innerText === '102.50'")
    table = _table(browser)
    assert list(table) == ["AAPL", "MSFT"]
    assert [table["AAPL"][1], table["AAPL"][2], table["AAPL"][4]] == ["102.50", "▲ +2.50%", "3"]
    assert table["MSFT"][2] == "▼ -2.50%"
    market.take_closes({"MSFT": 78.0})
    browser.wait("return document.querySelector('[data-symbol=MSFT] .change').innerText === '▼ -50.00%'")
    assert "close before today" in browser.run("return document.querySelector('[data-symbol=MSFT] .change').title")
    assert _table(browser)["AAPL"][2] == "▲ +2.50%"
    path = browser.run("return document.querySelector('[data-symbol=AAPL] path').getAttribute('d')")
    assert re.findall(r"[\d.]+,[\d.]+", path) == ["0.00,95.00", "50.00,41.00", "100.00,5.00"]
    assert browser.console() == []
    assert {url.split("/")[2] for url in browser.requests() if not url.startswith("data:")} == {
        server.address.split("/")[2]
    }


def test_the_page_shows_odd_symbols_as_text_and_forgets_dropped_ones(browser, server, market, monkeypatch):
    """HTML in a symbol is text, a character that turns the text around is shown; dropped tickers leave the page."""
    odd = ["<img src=x onerror=alert(1)>", "AB\u202eCD", "' onclick='x"]
    market.add(
        [_value(symbol, 1, _time(1)) for symbol in odd] * 2 + [_value("RARE", 1, _time(1))], now=time.monotonic()
    )
    browser.open(server.address)
    browser.wait("return document.querySelectorAll('#quotes tr').length === 4")
    shown = {cells[0] for cells in _table(browser).values()}
    assert shown == {"<img src=x onerror=alert(1)>", "AB\ufffdCD", "' onclick='x", "RARE"}
    assert browser.run("return document.querySelectorAll('#quotes img').length") == 0
    monkeypatch.setattr("dashboards.live.market.MOST_TICKERS", 4)
    monkeypatch.setattr("dashboards.live.market.TICKERS_KEPT", 3)
    market.add([_value("NEW", 1, _time(1))], now=time.monotonic())
    browser.wait("return document.querySelector('[data-symbol=NEW]') !== null")
    assert set(_table(browser)) == {*odd, "NEW"}
    assert browser.console() == []


def test_the_page_connects_again(browser, market):
    """While the server is away the page says so; when it is back, it goes on."""
    with Server(0, market) as first:
        port = first.server_port
        market.add([_value("AAPL", 100, _time(1))], now=time.monotonic())
        browser.open(first.address)
        browser.wait("return document.documentElement.dataset.connected === 'true'")
    browser.wait("return document.getElementById('state').innerText.startsWith('Connection lost')")
    market.add([_value("AAPL", 107, _time(2))], now=time.monotonic())
    with Server(port, market):
        browser.wait("return document.querySelector('[data-symbol=AAPL] .price').innerText === '107.00'")
        browser.wait("return document.documentElement.dataset.connected === 'true'")


def test_a_problem_of_kafka_is_on_the_page(browser, server, market):
    """When following ends with an error the page stays up and says which setting to look at."""

    def batches():
        yield [_value("AAPL", 100, _time(1))]
        raise ServiceError("KAFKA_SASL_PASSWORD: refused")

    thread = threading.Thread(target=follow, args=(market, batches(), lambda: False))
    thread.start()
    thread.join()
    browser.open(server.address)
    browser.wait("return document.getElementById('state').innerText === 'KAFKA_SASL_PASSWORD: refused'")
    assert "AAPL" in _table(browser)


def test_simulated_ticks_travel_through_kafka_to_the_page(browser, start, settings):
    """Ticks of `producer.py simulate` appear with their rate; the last prices are those in the topic; no group is left
    behind.
    """
    groups = _groups(settings)
    symbols = "AAPL,MSFT,NVDA"
    follow_options = "--topic", settings.kafka_topic_ticks, "--last", "500", "--symbols", symbols, "--no-closes"
    page = start("-m", "dashboards.live", "--port", "0", *follow_options)
    address = _wait_for(page.log_path, r"http://127\.0\.0\.1:\d+/")
    producer = start("producer.py", "simulate", "--rate", "200", "--symbols", f"{symbols},IBM")
    browser.open(address)
    browser.wait("return document.querySelectorAll('#quotes tr').length === 3", seconds=60)
    browser.wait("return Number(document.getElementById('rate').innerText) > 100", seconds=30)
    producer.terminate()
    assert producer.wait(30) == 0
    browser.wait("return Number(document.getElementById('rate').innerText) === 0", seconds=30)
    last = {}
    for tick in (tick for tick in _ticks_in(settings) if tick.symbol in symbols.split(",")):
        if tick.time >= last.get(tick.symbol, tick).time:
            last[tick.symbol] = tick
    table = _table(browser)
    assert {symbol: cells[5] for symbol, cells in table.items()} == {symbol: tick.time for symbol, tick in last.items()}
    assert {symbol: float(cells[1].replace(",", "")) for symbol, cells in table.items()} == pytest.approx(
        {symbol: tick.price for symbol, tick in last.items()}, abs=5e-5
    )
    assert browser.console() == []
    # Other tests have groups of their own meanwhile; the page would have the settings' one, or one without a name.
    assert not {group for group in _groups(settings) - groups if settings.kafka_group in group or not group}
    page.terminate()
    assert page.wait(30) == 0


def _groups(settings):
    from kafka import KafkaAdminClient

    with KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers) as admin:
        return {found["group_id"] for found in admin.list_groups()}


def _wait_for(path, pattern, seconds=30):
    end = time.monotonic() + seconds
    while not (found := re.search(pattern, path.read_text())):
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.1)
    return found[0]


def _ticks_in(settings):
    return [records.decode(records.Tick, value) for value in committed_values(settings, settings.kafka_topic_ticks)]
