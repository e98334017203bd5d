import json
import re
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.stub import ANY, Stubber
from botocore.validate import ParamValidator
from moto.server import ThreadedMotoServer

from dashboards.quicksight import __main__ as quicksight
from dashboards.quicksight import definition
from dashboards.quicksight.template import template_text
from pipeline.settings import ServiceError, Settings, SettingsError

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"
USER = f"arn:aws:quicksight:us-east-1:{ACCOUNT}:user/default/analyst"
ARNS = {name: f"arn:aws:quicksight:us-east-1:{ACCOUNT}:dataset/stock-market-{name}" for name in definition.DATA_SETS}
SOURCE_ARN = f"arn:aws:quicksight:us-east-1:{ACCOUNT}:datasource/stock-market"
MODEL = botocore.session.get_session().get_service_model("quicksight")
REQUESTS = {
    "CreateDataSource": definition.data_source("stock_market", USER),
    **{
        f"CreateDataSet {name}": definition.data_set(name, SOURCE_ARN, "stock_market", "SELECT 1", USER)
        for name in definition.DATA_SETS
    },
    "CreateDashboard": definition.dashboard(ARNS, USER),
}


def breaches(shape, value, path="$"):
    """What botocore's validator does not look at: enums, patterns and upper bounds of the service model."""
    limits = shape.metadata
    if shape.type_name == "structure":
        return [b for name, member in value.items() for b in breaches(shape.members[name], member, f"{path}.{name}")]
    if shape.type_name == "map":
        return [
            b
            for key, member in value.items()
            for b in breaches(shape.key, key, f"{path} key") + breaches(shape.value, member, f"{path}.{key}")
        ]
    size = value if shape.type_name in ("integer", "long", "double") else len(value) if hasattr(value, "__len__") else 0
    found = [f"{path}: more than {limits['max']}"] if "max" in limits and size > limits["max"] else []
    if shape.type_name == "list":
        return found + [
            b for number, member in enumerate(value) for b in breaches(shape.member, member, f"{path}[{number}]")
        ]
    if getattr(shape, "enum", None) and value not in shape.enum:
        found.append(f"{path}: {value!r} is not one of {shape.enum}")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        found.append(f"{path}: {value!r} does not match {limits['pattern']}")
    return found


@pytest.mark.parametrize("name", REQUESTS)
def test_each_request_follows_the_service_model(name):
    """Types, required members, enums, patterns and bounds are those of the API."""
    shape = MODEL.operation_model(name.split()[0]).input_shape
    request = {"AwsAccountId": ACCOUNT, **REQUESTS[name]}
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert breaches(shape, request) == []


def test_the_walk_over_the_model_can_fail():
    """A granularity that does not exist, an id with a space and a grid that is too wide are found."""
    wrong = json.loads(
        json.dumps(REQUESTS["CreateDashboard"])
        .replace('"MONTH"', '"MONTHS"')
        .replace('"DashboardId": "stock-market"', '"DashboardId": "stock market"')
        .replace('"ColumnSpan": 36', '"ColumnSpan": 37')
    )
    assert len(breaches(MODEL.operation_model("CreateDashboard").input_shape, wrong)) == 4


def _find(value, key):
    if isinstance(value, dict):
        for name, member in value.items():
            if name == key:
                yield member
            yield from _find(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from _find(member, key)


def undefined(dashboard):
    """Columns, data sets, visuals and fields that are named and not there."""
    there = {(name, column) for name in definition.DATA_SETS for column in definition.columns(name)}
    used = {(column["DataSetIdentifier"], column["ColumnName"]) for column in _find(dashboard, "Column")}
    wrong = [f"column {column}" for column in used - there]
    for sheet in dashboard["Definition"]["Sheets"]:
        visuals = set(_find(sheet["Visuals"], "VisualId"))
        wrong += [f"element {place}" for place in set(_find(sheet["Layouts"], "ElementId")) ^ visuals]
        for visual in sheet["Visuals"]:
            fields = list(_find(list(_find(visual, "FieldWells")), "FieldId"))
            wrong += [
                f"field {name}"
                for name in set(_find(list(_find(visual, "SortConfiguration")), "FieldId")) - set(fields)
            ]
            wrong += ["a field twice"] if len(fields) != len(set(fields)) else []
    return wrong


def test_every_column_visual_and_field_is_there():
    """Visuals use columns of their data sets, the layout places each visual, sorts name fields of their visual."""
    assert undefined(REQUESTS["CreateDashboard"]) == []
    text = json.dumps(REQUESTS["CreateDashboard"])
    for place, wrong in (
        ('"ColumnName": "close"', '"ColumnName": "closing"'),
        ('"ElementId": "volume"', '"ElementId": "volumes"'),
        ('"FieldSort": {"FieldId": "volume-value"', '"FieldSort": {"FieldId": "volume"'),
    ):
        assert place in text
        assert undefined(json.loads(text.replace(place, wrong)))


def test_the_dashboard_shows_what_is_asked_of_it():
    """Price trend, volatility over time, live fluctuations, monthly heatmap, volume bars and a box plot."""
    visuals = [
        (kind, body["VisualId"])
        for sheet in REQUESTS["CreateDashboard"]["Definition"]["Sheets"]
        for visual in sheet["Visuals"]
        for kind, body in visual.items()
    ]
    assert visuals == [
        ("LineChartVisual", "price-trend"),
        ("LineChartVisual", "volatility"),
        ("HeatMapVisual", "monthly-heatmap"),
        ("BarChartVisual", "volume"),
        ("BoxPlotVisual", "box-plot"),
        ("LineChartVisual", "live-fluctuations"),
    ]


def _cfn_lint(path):
    return subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), path], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_template_passes_cfn_lint(tmp_path):
    """cfn-lint finds nothing in the template, and finds an unknown property in a spoilt one."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(template_text())
    bad.write_text(template_text().replace('"ImportMode"', '"ImportModus"'))
    checked = _cfn_lint(good)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "ImportModus" in _cfn_lint(bad).stdout


def test_the_template_in_the_repository_is_what_the_script_makes():
    """Run `python -m dashboards.quicksight template` again after a change of the view or of the query volatility."""
    assert (ROOT / "dashboards/quicksight/stock_market.template.json").read_text() == template_text() + "\n"


@pytest.fixture
def client(monkeypatch):
    """A client of moto's server, which keeps data sources, data sets and dashboards."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client("quicksight", region_name="us-east-1", endpoint_url=f"http://{host}:{port}")
    server.stop()


def test_apply_creates_everything(client, capsys):
    """Against moto's server: the data source, three data sets and the dashboard are created, and can be described."""
    quicksight.apply(client, Settings(), ACCOUNT, USER, pause_seconds=0)
    assert capsys.readouterr().out.count("created arn:aws:quicksight:") == 5
    source = client.describe_data_source(AwsAccountId=ACCOUNT, DataSourceId="stock-market")["DataSource"]
    assert (source["Type"], source["DataSourceParameters"]["AthenaParameters"]["WorkGroup"]) == (
        "ATHENA",
        "stock_market",
    )
    assert (
        client.describe_dashboard(AwsAccountId=ACCOUNT, DashboardId="stock-market")["Dashboard"]["Name"]
        == "Stock market"
    )


def test_the_command_creates_everything_for_a_user(client, capsys, monkeypatch):
    """`apply --user-arn`, run as a user runs it, makes the five assets in the account of that user."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", client.meta.endpoint_url)
    monkeypatch.setattr(sys, "argv", ["quicksight", "apply", "--user-arn", USER])
    quicksight.main()
    assert capsys.readouterr().out.count("created arn:aws:quicksight:") == 5
    assert client.describe_dashboard(AwsAccountId=ACCOUNT, DashboardId="stock-market")["Dashboard"]["Name"]


def _stubbed():
    client = boto3.client(
        "quicksight", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    return client, Stubber(client)


def test_apply_updates_what_exists(capsys):
    """A second apply updates each thing, leaves its permissions alone, and publishes the dashboard's new version once
    it is made.
    """
    client, stub = _stubbed()
    stub.add_client_error("create_data_source", "ResourceExistsException")
    stub.add_response(
        "update_data_source",
        {"Arn": SOURCE_ARN},
        {"AwsAccountId": ACCOUNT, "DataSourceId": "stock-market", "Name": ANY, "DataSourceParameters": ANY},
    )
    stub.add_response("describe_data_source", {"DataSource": {"Status": "UPDATE_SUCCESSFUL"}})
    for name in definition.DATA_SETS:
        stub.add_client_error("create_data_set", "ResourceExistsException")
        stub.add_response("update_data_set", {"Arn": ARNS[name]})
    stub.add_client_error("create_dashboard", "ResourceExistsException")
    stub.add_response("update_dashboard", {"Arn": "arn:d", "VersionArn": "arn:d/version/7"})
    for status in ("UPDATE_IN_PROGRESS", "UPDATE_SUCCESSFUL"):
        stub.add_response(
            "describe_dashboard",
            {"Dashboard": {"Version": {"Status": status}}},
            {"AwsAccountId": ACCOUNT, "DashboardId": "stock-market", "VersionNumber": 7},
        )
    stub.add_response(
        "update_dashboard_published_version",
        {},
        {"AwsAccountId": ACCOUNT, "DashboardId": "stock-market", "VersionNumber": 7},
    )
    with stub:
        quicksight.apply(client, Settings(), ACCOUNT, USER, pause_seconds=0)
    stub.assert_no_pending_responses()
    assert capsys.readouterr().out.count("updated") == 5


def test_a_dashboard_that_quicksight_refuses_is_an_error_with_its_reason():
    """A version that failed is told with QuickSight's own text."""
    client, stub = _stubbed()
    stub.add_response("create_dashboard", {"Arn": "arn:d", "VersionArn": "arn:d/version/1"})
    stub.add_response(
        "describe_dashboard",
        {
            "Dashboard": {
                "Version": {
                    "Status": "CREATION_FAILED",
                    "Errors": [{"Type": "ACCESS_DENIED", "Message": "no access to the bucket"}],
                }
            }
        },
    )
    with stub, pytest.raises(ServiceError, match="ACCESS_DENIED: no access to the bucket"):
        quicksight._put(client, "dashboard", ACCOUNT, REQUESTS["CreateDashboard"], 0)


def test_delete_goes_from_the_dashboard_to_the_source(capsys):
    """The dashboard goes first, the source last; what is not there is passed over."""
    client, stub = _stubbed()
    stub.add_response("delete_dashboard", {})
    stub.add_client_error("delete_data_set", "ResourceNotFoundException")
    for _ in definition.DATA_SETS[1:]:
        stub.add_response("delete_data_set", {})
    stub.add_response("delete_data_source", {})
    with stub:
        quicksight.delete(client, Settings(), ACCOUNT)
    stub.assert_no_pending_responses()
    assert capsys.readouterr().out.splitlines()[1] == "there is no data set stock-market-bars"


def test_an_arn_of_something_else_is_refused():
    """The account comes from a QuickSight user's or group's ARN, and from nothing else."""
    assert quicksight.account_of(USER) == ACCOUNT
    with pytest.raises(SettingsError, match="arn:aws:iam"):
        quicksight.account_of(f"arn:aws:iam::{ACCOUNT}:user/analyst")


def test_a_user_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`apply` with something else than a user's ARN names the option and an example, and contacts nobody."""
    monkeypatch.setattr(sys, "argv", ["quicksight", "apply", "--user-arn", "arn:aws:iam::123456789012:user/me"])
    with pytest.raises(SettingsError, match=r"--user-arn: .* is not like arn:aws:quicksight"):
        quicksight.main()


def test_each_lake_has_assets_of_its_own() -> None:
    """The assets on another database have other ids, so that one lake's dashboard never replaces another's."""
    name = definition.name_of("stock_market_dev")
    assert definition.name_of("stock_market") == definition.NAME
    assert definition.data_source("w", USER, name)["DataSourceId"] == "stock-market-dev"
    assert definition.data_set("bars", SOURCE_ARN, "d", "SELECT 1", USER, lake_name=name)["DataSetId"] == (
        "stock-market-dev-bars"
    )
    assert definition.dashboard(ARNS, USER, name)["DashboardId"] == "stock-market-dev"
