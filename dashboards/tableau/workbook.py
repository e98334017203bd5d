"""The Tableau workbook as XML: three sheets and the dashboard that holds them. Pure.

Tableau's published schema lets undefined fields pass, so every field a sheet uses goes through Sheet, which declares
what it names.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from dashboards.tableau.source import (
    CAPTION,
    LENGTH,
    MOVING_AVERAGE,
    PARAMETERS,
    SOURCE,
    VERSION,
    Connection,
    Element,
    data_source,
    data_source_file,
    document,
    field_column,
    manifest,
    node,
    parameter_column,
    parameters,
)

_PREFIXES = {"None": "none", "Avg": "avg", "Sum": "sum", "Month-Trunc": "tmn", "Day-Trunc": "tdy", "User": "usr"}
_KINDS = {"nominal": "nk", "ordinal": "ok", "quantitative": "qk"}


def files(connection: Connection) -> dict[str, str]:
    """Return the texts of the workbook and of the data source alone, by file name."""
    return {"stock_market.twb": workbook(connection), "stock_market.tds": data_source_file(connection)}


def workbook(connection: Connection) -> str:
    """Return the text of the .twb file."""
    sheets = [_heatmap(), _trend(), _volume()]
    names = [sheet.name for sheet in sheets]
    root = node(
        "workbook",
        {
            "original-version": VERSION,
            "version": VERSION,
            "source-build": "0.0.0 (0000.0.0.0)",
            "source-platform": "win",
        },
        manifest(),
        node("datasources", {}, parameters(), data_source(connection)),
        node("worksheets", {}, *(sheet.element() for sheet in sheets)),
        node("dashboards", {}, _dashboard(names)),
        node("windows", {}, *map(_window, names), _dashboard_window(names)),
    )
    return document(root)


@dataclass
class Sheet:
    """A worksheet. use() declares a field and returns its full name for a shelf, an encoding or a filter."""

    name: str
    title: str
    _columns: dict[str, Element] = field(default_factory=dict)
    _instances: dict[str, Element] = field(default_factory=dict)
    panes: list[Element] = field(default_factory=list)
    rows: str = ""
    cols: str = ""
    sorts: list[Element] = field(default_factory=list)
    styles: list[Element] = field(default_factory=list)

    def use(self, column: str, derivation: str, type: str) -> str:
        """Declare the field in a derivation and return its full name."""
        name = f"[{_PREFIXES[derivation]}:{column.strip('[]')}:{_KINDS[type]}]"
        self._columns.setdefault(column, field_column(column))
        children = [node("table-calc", {"ordering-type": "Rows"})] if derivation == "User" else []
        self._instances[name] = node(
            "column-instance",
            {"column": column, "derivation": derivation, "name": name, "pivot": "key", "type": type},
            *children,
        )
        return f"[{SOURCE}].{name}"

    def declarations(self) -> Element:
        """Return the declarations of the fields used so far."""
        used = *self._columns.values(), *self._instances.values()
        return node("datasource-dependencies", {"datasource": SOURCE}, *used)

    def element(self) -> Element:
        """Return the worksheet, with the filters that all sheets share."""
        filters = self._filters()
        sources = [node("datasource", {"caption": CAPTION, "name": SOURCE})]
        dependencies = []
        if MOVING_AVERAGE in self._columns:
            sources.append(node("datasource", {"name": PARAMETERS}))
            dependencies.append(node("datasource-dependencies", {"datasource": PARAMETERS}, parameter_column()))
            self._columns.setdefault("[close]", field_column("[close]"))
        dependencies.append(self.declarations())
        slices = node("slices", {}, *(node("column", text=one.get("column")) for one in filters))
        view = node(
            "view",
            {},
            node("datasources", {}, *sources),
            *dependencies,
            *filters,
            *self.sorts,
            slices,
            node("aggregation", {"value": "true"}),
        )
        title = node("layout-options", {}, node("title", {}, node("formatted-text", {}, node("run", text=self.title))))
        table = node(
            "table",
            {},
            view,
            node("style", {}, *self.styles),
            node("panes", {}, *self.panes),
            node("rows", text=self.rows),
            node("cols", text=self.cols),
        )
        return node("worksheet", {"name": self.name}, title, table, _simple_id(f"worksheet {self.name}"))

    def _filters(self) -> list[Element]:
        """Return the filters: daily bars only, and what the dashboard's controls choose. Sheets share each group."""
        interval, symbol, time = self.use("[interval]", "None", "nominal"), *filter_fields(self)
        return [
            node(
                "filter",
                {"class": "categorical", "column": interval, "filter-group": "1"},
                node("groupfilter", {"function": "member", "level": "[none:interval:nk]", "member": '"1d"'}),
            ),
            node(
                "filter",
                {"class": "categorical", "column": symbol, "filter-group": "2"},
                node("groupfilter", {"function": "level-members", "level": "[none:symbol:nk]"}),
            ),
            node("filter", {"class": "quantitative", "column": time, "filter-group": "3", "included-values": "all"}),
        ]


def filter_fields(sheet: Sheet) -> tuple[str, str]:
    """Return the fields of the dashboard's two filters."""
    return sheet.use("[symbol]", "None", "nominal"), sheet.use("[time]", "None", "quantitative")


def _pane(
    mark: str, encodings: Iterable[tuple[str, str]], *, labels: bool = False, attributes: dict[str, str] | None = None
) -> Element:
    children = [
        node("view", {}, node("breakdown", {"value": "auto"})),
        node("mark", {"class": mark}),
        node("encodings", {}, *(node(tag, {"column": column}) for tag, column in encodings)),
    ]
    if labels:
        children.append(
            node(
                "style",
                {},
                node("style-rule", {"element": "mark"}, node("format", {"attr": "mark-labels-show", "value": "true"})),
            )
        )
    return node("pane", {"selection-relaxation-option": "selection-relaxation-allow", **(attributes or {})}, *children)


def _heatmap() -> Sheet:
    sheet = Sheet("Monthly performance", "Average close by month and ticker, $")
    close = sheet.use("[close]", "Avg", "quantitative")
    sheet.rows, sheet.cols = sheet.use("[time]", "Month-Trunc", "ordinal"), sheet.use("[symbol]", "None", "nominal")
    sheet.panes = [_pane("Square", [("color", close), ("text", close)], labels=True)]
    return sheet


def _trend() -> Sheet:
    """Return close and moving average in one place: two axes, folded and synchronized."""
    sheet = Sheet("Closing price trend", "Close and its moving average by day, $")
    close, average = sheet.use("[close]", "Avg", "quantitative"), sheet.use(MOVING_AVERAGE, "User", "quantitative")
    symbol = sheet.use("[symbol]", "None", "nominal")
    sheet.cols, sheet.rows = sheet.use("[time]", "Day-Trunc", "quantitative"), f"({close} + {average})"
    sheet.panes = [
        _pane("Line", [("color", symbol)], attributes={"id": "1", "y-axis-name": close}),
        _pane("Line", [("color", symbol)], attributes={"id": "2", "y-axis-name": average}),
    ]
    folded = {
        "attr": "space",
        "class": "0",
        "field": average,
        "field-type": "quantitative",
        "fold": "true",
        "scope": "rows",
        "synchronized": "true",
        "type": "space",
    }
    sheet.styles = [node("style-rule", {"element": "axis"}, node("encoding", folded))]
    return sheet


def _volume() -> Sheet:
    sheet = Sheet("Volume comparison", "Shares traded by ticker")
    volume, symbol = sheet.use("[volume]", "Sum", "quantitative"), sheet.use("[symbol]", "None", "nominal")
    sheet.cols, sheet.rows = volume, symbol
    sheet.panes = [_pane("Bar", [("color", symbol)])]
    sheet.sorts = [node("computed-sort", {"column": symbol, "direction": "DESC", "using": volume})]
    return sheet


def _dashboard(sheets: list[str]) -> Element:
    controls = Sheet("", "")
    zones = _zones(sheets, *filter_fields(controls))
    return node(
        "dashboard",
        {"name": "Stock market"},
        node("style"),
        node("size", {"maxheight": "900", "maxwidth": "1400", "minheight": "900", "minwidth": "1400"}),
        node(
            "datasources",
            {},
            node("datasource", {"name": PARAMETERS}),
            node("datasource", {"caption": CAPTION, "name": SOURCE}),
        ),
        node("datasource-dependencies", {"datasource": PARAMETERS}, parameter_column()),
        controls.declarations(),
        node("zones", {}, zones),
        _simple_id("dashboard"),
    )


def _zones(sheets: list[str], symbol: str, time: str) -> Element:
    """Return the places: heatmap, trend over volume, controls. They are in 100,000ths of the dashboard."""
    heatmap, trend, volume = sheets
    ticker_filter = {"type-v2": "filter", "param": symbol, "mode": "checklist"}
    length = {"type-v2": "paramctrl", "param": f"[{PARAMETERS}].{LENGTH}", "mode": "compact"}
    places: list[tuple[dict[str, str], tuple[int, int, int, int]]] = [
        ({"name": heatmap}, (0, 0, 34_000, 100_000)),
        ({"name": trend}, (34_000, 0, 50_000, 60_000)),
        ({"name": volume}, (34_000, 60_000, 50_000, 40_000)),
        ({"name": trend} | ticker_filter, (84_000, 0, 16_000, 40_000)),
        ({"name": trend, "type-v2": "filter", "param": time}, (84_000, 40_000, 16_000, 15_000)),
        (length, (84_000, 55_000, 16_000, 10_000)),
        ({"name": trend, "type-v2": "color", "param": symbol}, (84_000, 65_000, 16_000, 35_000)),
    ]
    zones = [
        node("zone", {"id": str(number)} | zone | dict(zip("xywh", map(str, place), strict=True)))
        for number, (zone, place) in enumerate(places, 2)
    ]
    return node(
        "zone", {"id": "1", "type-v2": "layout-basic", "x": "0", "y": "0", "w": "100000", "h": "100000"}, *zones
    )


def _window(name: str) -> Element:
    cards = node(
        "cards",
        {},
        node(
            "edge",
            {"name": "left"},
            node("strip", {"size": "160"}, *(node("card", {"type": kind}) for kind in ("pages", "filters", "marks"))),
        ),
        node(
            "edge",
            {"name": "top"},
            *(
                node("strip", {"size": "2147483647"}, node("card", {"type": kind}))
                for kind in ("columns", "rows", "title")
            ),
        ),
    )
    return node("window", {"class": "worksheet", "name": name}, cards, _simple_id(f"window {name}"))


def _dashboard_window(sheets: list[str]) -> Element:
    return node(
        "window",
        {"class": "dashboard", "maximized": "true", "name": "Stock market"},
        node("viewpoints", {}, *(node("viewpoint", {"name": name}) for name in sheets)),
        node("active", {"id": "-1"}),
        _simple_id("window dashboard"),
    )


def _simple_id(of: str) -> Element:
    """Return an id that is the same at every run, so that the files change only when their content does."""
    return node("simple-id", {"uuid": "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, f"stock_market/{of}")).upper() + "}"})
