"""producer.py actions, and replays of files with actions, as a user runs them on the embedded stack."""

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from committed import committed_values

from pipeline.athena.client import Athena
from pipeline.athena.queries import queries
from pipeline.records import Action, Bar, decode
from pipeline.settings import Settings
from tests.integration.api_server import Answer, api_server

KEY = "secret-key-123"
TODAY = datetime.now(UTC).date()


@pytest.fixture
def actions(settings: Settings) -> Callable[[], list[Action]]:
    return lambda: [decode(Action, value) for value in committed_values(settings, settings.kafka_topic_actions)]


def key_and_url(url: str) -> dict[str, str]:
    return {"POLYGON_API_KEY": KEY, "POLYGON_BASE_URL": url, "POLYGON_REQUESTS_PER_MINUTE": "0"}


def a_split(day: object, identity: str = "E1", **changes: object) -> dict:
    return {"id": identity, "ticker": "A", "execution_date": str(day), "split_from": 1, "split_to": 10} | changes


def test_actions_are_sent_once_moved_and_cancelled(run: Callable, actions: Callable) -> None:
    """A list of two pages sends each action once; a moved one is sent again, one that is gone is cancelled, a bad one
    is refused and said; and the key is nowhere.
    """
    soon, later = TODAY + timedelta(days=10), TODAY + timedelta(days=17)
    pages = {"": [a_split(soon), a_split("None", "E0")], "2": [a_split("2000-06-21", "E2")]}

    def answer(path: str, _number: int) -> Answer:
        if not path.startswith("/stocks/v1/splits"):
            return Answer({"status": "OK", "results": []} if "dividends" in path else {}, 200 if "div" in path else 403)
        cursor = parse_qs(urlsplit(path).query).get("cursor", [""])[0]
        more = (
            {"next_url": f"https://api.massive.com/stocks/v1/splits?cursor={2}"} if not cursor and "2" in pages else {}
        )
        return Answer({"status": "OK", "results": pages[cursor], **more})

    with api_server(answer) as server:
        for _ in range(2):
            done = run("producer.py", "actions", "--once", "--symbols", "A", **key_and_url(server.url))
            assert done.returncode == 0, done.stderr
            assert KEY not in done.stdout + done.stderr
        assert "refused 1" in done.stdout
        assert "time: 'None 00:00:00.000' is not a time" in done.stderr
        assert sorted((a.id, a.time[:10]) for a in actions()) == [("E1", str(soon)), ("E2", "2000-06-21")]
        pages[""] = [a_split(later, "E1"), a_split(soon, "E3")]
        run("producer.py", "actions", "--symbols", "A", **key_and_url(server.url))
        pages[""] = [a_split(later, "E1")]
        run("producer.py", "actions", "--symbols", "A", **key_and_url(server.url))
    assert [(a.id, a.time[:10], a.cancelled) for a in actions()[2:]] == [
        ("E1", str(later), None),
        ("E3", str(soon), None),
        ("E3", str(soon), True),
    ]


def test_a_refused_key_and_a_failing_symbol(run: Callable, actions: Callable) -> None:
    """A refused key stops with exit code 1 and names the setting; a symbol that fails lets the others be read."""
    with api_server(lambda *_: Answer({"error": "no"}, 403)) as server:
        done = run("producer.py", "actions", "--symbols", "A,B", **key_and_url(server.url))
    assert done.returncode == 1
    assert "POLYGON_API_KEY" in done.stderr

    def answer(path: str, _number: int) -> Answer:
        if "ticker=B" in path:
            return Answer({"error": "bad ticker"}, 400)
        return Answer({"status": "OK", "results": [a_split("2000-06-21")] if "splits" in path else []})

    with api_server(answer) as server:
        done = run("producer.py", "actions", "--symbols", "B,A", **key_and_url(server.url))
    assert done.returncode == 1
    assert "1 of 2 symbols failed" in done.stderr
    assert [a.id for a in actions()] == ["E1"]


def test_one_replay_yields_bars_and_actions(run: Callable, actions: Callable, settings: Settings, tmp_path) -> None:
    """A file with columns of splits and dividends sends both, each once; a file without makes no topic of actions."""
    path = tmp_path / "AAPL.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits\n"
        "2024-01-02,10,12,10,11,11,1500,0.0,4.0\n2024-01-03,10,12,10,11,11,1500,0.5,0\n2024-01-04,,,,,,,0.25,0\n"
    )
    for _ in range(2):
        done = run("producer.py", "replay", path)
        assert done.returncode == 0, done.stderr
    bars = [decode(Bar, value) for value in committed_values(settings, settings.kafka_topic_bars)]
    assert [bar.time[:10] for bar in bars] == ["2024-01-02", "2024-01-03"]
    assert [(a.kind, a.time[:10], a.ratio, a.amount) for a in actions()] == [
        ("split", "2024-01-02", 4.0, None),
        ("dividend", "2024-01-03", 1.0, 0.5),
        ("dividend", "2024-01-04", 1.0, 0.25),
    ]


class Massive:
    """A market of one share of about 1,200 that splits 10:1, pays 2 % of its price on another day, and then changes its
    name from OLD to A; a fund was called A before.
    """

    def __init__(self, split_day: date, ex_day: date, rename_day: date) -> None:
        self.split_day, self.ex_day, self.rename_day, self.today = split_day, ex_day, rename_day, TODAY

    def price(self, day: date) -> float:
        whole = 1200.0 + 6 * (day.toordinal() % 3)
        return (whole if day < self.split_day else whole / 10) * (1.0 if day < self.ex_day else 0.98)

    def __call__(self, path: str, _number: int) -> Answer:
        name = "OLD" if self.today < self.rename_day else "A"
        if "/splits" in path or "/dividends" in path:
            listed = self.actions(name, "/splits" in path) if f"ticker={name}&" in path else []
            return Answer({"status": "OK", "results": listed})
        if "/events" in path:
            days = [(date(2012, 5, 18), "OLD"), (self.rename_day, "A")]
            events = [
                {"date": str(day), "ticker_change": {"ticker": ticker}} for day, ticker in days if day <= self.today
            ]
            return Answer({"status": "OK", "results": {"events": events}} if f"/{name}/" in path else {}, 200)
        assert "adjusted=false" in path
        *_, symbol, _, _, _, first, last = path.partition("?")[0].split("/")
        start, end = (datetime.fromisoformat(text).date() for text in (first, last))
        days = [start + timedelta(days=n) for n in range((min(end, self.today) - start).days + 1)]
        own = [day for day in days if (day < self.rename_day) == (symbol == "OLD")]
        results = [self.bar(day, self.price(day)) for day in own if day >= TODAY - timedelta(days=12)]
        fund = [self.bar(day, 15.0) for day in days if symbol == "A" and (TODAY - day).days in (40, 41)]
        return Answer({"status": "OK", "adjusted": False, "results": [*fund, *results]})

    def actions(self, ticker: str, are_splits: bool) -> list[dict]:
        if are_splits:
            return [a_split(self.split_day, ticker=ticker)]
        paid = {"id": "D1", "ticker": ticker, "ex_dividend_date": str(self.ex_day), "currency": "USD"}
        return [paid | {"cash_amount": 0.02 * self.price(self.ex_day - timedelta(days=1))}]

    def bar(self, day: date, price: float) -> dict:
        start = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        return {"t": int(start.timestamp() * 1000), "o": price, "h": price, "l": price, "c": price, "v": 5}


def test_charts_are_continuous_the_morning_after(run: Callable, settings: Settings, credentials: None) -> None:
    """Polled day by day over a 10:1 split, a dividend and a rename, every chart is continuous each morning, without
    anyone doing anything but the daily runs, whichever name is read first; the total return leaves out the dividend's
    fall as well; and the fund that had the name before is another ticker.
    """
    split_day, ex_day, rename_day = (TODAY - timedelta(days=days) for days in (6, 4, 2))
    market = Massive(split_day, ex_day, rename_day)
    assert run("glue_setup.py").returncode == 0
    athena = Athena(settings)
    with api_server(market) as server:
        days = (split_day - timedelta(days=1), split_day, ex_day, rename_day, TODAY - timedelta(days=1))
        for day, symbols in zip(days, itertools.cycle(["OLD,A", "A,OLD"]), strict=False):
            market.today = day
            for command in (("actions",), ("poll", "--to", str(day))):
                done = run("producer.py", *command, "--symbols", symbols, **key_and_url(server.url))
                assert done.returncode == 0, done.stderr
            for arguments in (
                ("consumer.py", "--until-caught-up"),
                ("glue_setup.py", "etl", "--tables", "bars", "actions"),
            ):
                done = run(*arguments)
                assert done.returncode == 0, done.stderr
            returns = athena.query(queries()["returns"])
            company = returns[~returns["symbol"].str.contains("before")]
            assert len(company) >= 4
            assert company["daily_return"].abs().max() < 0.032
    growth = athena.query(queries()["total_return"])
    names = sorted(growth["symbol"].unique())
    assert names == ["A", f"A before {rename_day}"]
    company = growth[growth["symbol"] == "A"].set_index("day")["total_growth"]
    assert len(company) >= 11  # in New York the last day may not be over yet
    assert company.pct_change().abs().max() < 0.0101
    assert athena.query(queries()["unexplained_jumps"]).empty
    stored = athena.query("SELECT \"close\" FROM bars WHERE symbol = 'OLD'")["close"]
    assert stored.max() / stored.min() > 9
