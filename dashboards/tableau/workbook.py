"""The Tableau workbook and data source as XML, from the columns of the view `bars`. Pure.

Written against Tableau's published schema for 2026.2 (github.com/tableau/tableau-document-schemas). That schema lets
undefined fields pass, so every field a sheet uses goes through Sheet, which declares what it names.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from pipeline import records

VERSION = "26.2"
SOURCE = "federated.stock_market"
CAPTION = "Stock market"
PARAMETERS = "Parameters"
LENGTH = "[Parameter 1]"
MOVING_AVERAGE = "[Calculation_moving_average]"
# The offset of a window's first row counts from the current one: 9 rows before it and itself are 10.
MOVING_AVERAGE_FORMULA = f"WINDOW_AVG(AVG([close]), 1 - [{PARAMETERS}].{LENGTH}, 0)"
USER = "http://www.tableausoftware.com/xml/user"
_DATA_TYPES = {"string": "string", "double": "real", "bigint": "integer", "boolean": "boolean", "timestamp": "datetime"}
_PREFIXES = {"None": "none", "Avg": "avg", "Sum": "sum", "Month-Trunc": "tmn", "Day-Trunc": "tdy", "User": "usr"}
_KINDS = {"nominal": "nk", "ordinal": "ok", "quantitative": "qk"}
_PRICES = frozenset({"open", "high", "low", "close", "vwap"})

Element = ET.Element


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where Tableau finds the bars: attributes of the connection element and the name of the table in it."""

    attributes: dict[str, str]
    caption: str
    table: str

    @property
    def name(self) -> str:
        return f"{self.attributes['class']}.stock_market"


def athena(region: str, database: str) -> Connection:
    """Amazon Athena. The staging directory is left to the workgroup's output location: no public document names its
    attribute.

    The connector asks for the keys when the workbook is opened; none is in the file.
    """
    server = f"athena.{region}.amazonaws.com"
    attributes = {"class": "athena", "dbname": "AwsDataCatalog", "port": "443", "schema": database, "server": server}
    return Connection(attributes=attributes, caption=server, table=f"[{database}].[bars]")


def csv_file(file: str, folder: str) -> Connection:
    """A CSV, for Tableau Public, which cannot reach Athena."""
    attributes = {"class": "textscan", "directory": folder, "filename": file, "password": "", "server": ""}
    return Connection(attributes=attributes, caption=file, table=f"[{file.replace('.', '#')}]")


def hyper_file(path: str) -> Connection:
    """An extract, whose table is "Extract"."bars"."""
    attributes = {
        "class": "hyper",
        "authentication": "auth-none",
        "dbname": path,
        "default-settings": "yes",
        "schema": "Extract",
        "sslmode": "",
        "username": "tableau_internal_user",
    }
    return Connection(attributes=attributes, caption=path.rpartition("/")[2], table="[Extract].[bars]")


def node(tag: str, attributes: dict[str, str] | None = None, *children: Element, text: str | None = None) -> Element:
    made = Element(tag, attributes or {})
    made.text = text
    made.extend(children)
    return made


def columns() -> dict[str, records.Column]:
    """The fields of a bar, by name: the columns of the view but for its partition."""
    return {column.name: column for column in records.columns(records.Bar)}


def workbook(connection: Connection) -> str:
    """The text of the .twb file: three sheets and the dashboard that holds them."""
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
        _manifest(),
        node("datasources", {}, _parameters(), data_source(connection)),
        node("worksheets", {}, *(sheet.element() for sheet in sheets)),
        node("dashboards", {}, _dashboard(names)),
        node("windows", {}, *map(_window, names), _dashboard_window(names)),
    )
    return _text(root)


def data_source_file(connection: Connection) -> str:
    """The text of the .tds file: the connection and its fields, for workbooks of one's own."""
    made = data_source(connection)
    made.attrib = {"formatted-name": SOURCE, "inline": "true", "version": VERSION}
    made.insert(0, _manifest())
    return _text(made)


def _text(root: Element) -> str:
    ET.register_namespace("user", USER)
    ET.indent(root)
    return "<?xml version='1.0' encoding='utf-8' ?>\n" + ET.tostring(root, encoding="unicode") + "\n"


def _manifest() -> Element:
    return node("document-format-change-manifest", {}, node("ManifestByVersion"))


def _parameter_column() -> Element:
    return node(
        "column",
        {
            "caption": "Moving average, days",
            "datatype": "integer",
            "name": LENGTH,
            "param-domain-type": "list",
            "role": "measure",
            "type": "quantitative",
            "value": "10",
        },
        node("calculation", {"class": "tableau", "formula": "10"}),
        node("members", {}, *(node("member", {"value": days}) for days in ("10", "30", "50"))),
    )


def _parameters() -> Element:
    return node(
        "datasource",
        {"hasconnection": "false", "inline": "true", "name": PARAMETERS, "version": VERSION},
        node("aliases", {"enabled": "yes"}),
        _parameter_column(),
    )


def _column(name: str) -> Element:
    if name == MOVING_AVERAGE:
        return node(
            "column",
            {
                "caption": "Moving average of the close",
                "datatype": "real",
                "default-format": 'c"$"#,##0.00;-"$"#,##0.00',
                "name": name,
                "role": "measure",
                "type": "quantitative",
            },
            node(
                "calculation",
                {"class": "tableau", "formula": MOVING_AVERAGE_FORMULA},
                node("table-calc", {"ordering-type": "Rows"}),
            ),
        )
    column = columns()[name.strip("[]")]
    numeric = column.type in ("double", "bigint")
    captions = {"symbol": "Ticker", "vwap": "VWAP", "ingested_at": "Ingested at"}
    attributes = {
        "caption": captions.get(column.name, column.name.capitalize()),
        "datatype": _DATA_TYPES[column.type],
        "name": f"[{column.name}]",
        "role": "measure" if numeric else "dimension",
        "type": "quantitative" if numeric else "ordinal" if column.type == "timestamp" else "nominal",
    }
    if column.name in _PRICES:
        attributes["default-format"] = 'c"$"#,##0.00;-"$"#,##0.00'
    return node("column", attributes)


def data_source(connection: Connection) -> Element:
    relation = {"connection": connection.name, "name": "bars", "table": connection.table, "type": "table"}
    described = [
        node(
            "metadata-record",
            {"class": "column"},
            node("remote-name", text=column.name),
            node(
                "remote-type",
                text={"string": "129", "double": "5", "bigint": "20", "boolean": "11", "timestamp": "7"}[column.type],
            ),
            node("local-name", text=f"[{column.name}]"),
            node("parent-name", text="[bars]"),
            node("remote-alias", text=column.name),
            node("ordinal", text=str(ordinal)),
            node("local-type", text=_DATA_TYPES[column.type]),
            node(
                "aggregation",
                text="Sum"
                if column.type in ("double", "bigint")
                else "Year"
                if column.type == "timestamp"
                else "Count",
            ),
            node("contains-null", text="true"),
        )
        for ordinal, column in enumerate(columns().values())
    ]
    return node(
        "datasource",
        {"caption": CAPTION, "inline": "true", "name": SOURCE, "version": VERSION},
        node(
            "connection",
            {"class": "federated"},
            node(
                "named-connections",
                {},
                node(
                    "named-connection",
                    {"caption": connection.caption, "name": connection.name},
                    node("connection", connection.attributes),
                ),
            ),
            node("relation", relation),
            node("metadata-records", {}, *described),
        ),
        node("aliases", {"enabled": "yes"}),
        *(_column(f"[{name}]") for name in columns()),
        _column(MOVING_AVERAGE),
        node("layout", {"dim-ordering": "alphabetic", "measure-ordering": "alphabetic", "show-structure": "true"}),
        # The moving average needs the parameter, in a data source of its own too.
        node("datasource-dependencies", {"datasource": PARAMETERS}, _parameter_column()),
    )


@dataclass
class Sheet:
    """A worksheet. use() declares a field in a derivation and gives its full name for a shelf, an encoding or a filter."""

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
        name = f"[{_PREFIXES[derivation]}:{column.strip('[]')}:{_KINDS[type]}]"
        self._columns.setdefault(column, _column(column))
        children = [node("table-calc", {"ordering-type": "Rows"})] if derivation == "User" else []
        self._instances[name] = node(
            "column-instance",
            {"column": column, "derivation": derivation, "name": name, "pivot": "key", "type": type},
            *children,
        )
        return f"[{SOURCE}].{name}"

    def element(self) -> Element:
        filters = self._filters()
        sources = [node("datasource", {"caption": CAPTION, "name": SOURCE})]
        dependencies = []
        if MOVING_AVERAGE in self._columns:
            sources.append(node("datasource", {"name": PARAMETERS}))
            dependencies.append(node("datasource-dependencies", {"datasource": PARAMETERS}, _parameter_column()))
            self._columns.setdefault("[close]", _column("[close]"))
        dependencies.append(
            node("datasource-dependencies", {"datasource": SOURCE}, *self._columns.values(), *self._instances.values())
        )
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
        """Daily bars only, and what the dashboard's controls choose. A filter group is shared by all sheets."""
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
    """The fields of the dashboard's two filters."""
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
    """Close and moving average over each other: two axes, folded into one place and synchronized."""
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
    """The heatmap on the left, trend over volume in the middle, controls on the right. Places are in 100,000ths."""
    heatmap, trend, volume = sheets
    controls = Sheet("", "")
    symbol, time = filter_fields(controls)
    zones = [
        {"name": heatmap, "x": 0, "y": 0, "w": 34_000, "h": 100_000},
        {"name": trend, "x": 34_000, "y": 0, "w": 50_000, "h": 60_000},
        {"name": volume, "x": 34_000, "y": 60_000, "w": 50_000, "h": 40_000},
        {
            "name": trend,
            "type-v2": "filter",
            "param": symbol,
            "mode": "checklist",
            "x": 84_000,
            "y": 0,
            "w": 16_000,
            "h": 40_000,
        },
        {"name": trend, "type-v2": "filter", "param": time, "x": 84_000, "y": 40_000, "w": 16_000, "h": 15_000},
        {
            "type-v2": "paramctrl",
            "param": f"[{PARAMETERS}].{LENGTH}",
            "mode": "compact",
            "x": 84_000,
            "y": 55_000,
            "w": 16_000,
            "h": 10_000,
        },
        {"name": trend, "type-v2": "color", "param": symbol, "x": 84_000, "y": 65_000, "w": 16_000, "h": 35_000},
    ]
    inner = [
        node("zone", {"id": str(number), **{key: str(value) for key, value in zone.items()}})
        for number, zone in enumerate(zones, 2)
    ]
    outer = node(
        "zone", {"id": "1", "type-v2": "layout-basic", "x": "0", "y": "0", "w": "100000", "h": "100000"}, *inner
    )
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
        node("datasource-dependencies", {"datasource": PARAMETERS}, _parameter_column()),
        node(
            "datasource-dependencies",
            {"datasource": SOURCE},
            *controls._columns.values(),
            *controls._instances.values(),
        ),  # noqa: SLF001
        node("zones", {}, outer),
        _simple_id("dashboard"),
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
    """The same at every run, so that the files change only when their content does."""
    return node("simple-id", {"uuid": "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, f"stock_market/{of}")).upper() + "}"})
