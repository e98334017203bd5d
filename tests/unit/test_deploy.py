"""What lies in deploy/: templates by cfn-lint, the lake's beside its definitions, containers by schema, units by
systemd, policies.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cfnlint.decode import cfn_yaml

from deploy import generated
from pipeline.settings import Settings
from pipeline.tables import catalog, resources
from pipeline.tables.catalog import CURATED

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
POLICIES = sorted(path for path in (DEPLOY / "iam").glob("*.json") if not path.stem.startswith("dynamodb"))
VALUES = {
    "bucket": "lake",
    "root": "",
    "region": "us-east-1",
    "account": "123456789012",
    "database": "stock_market",
    "workgroup": "stock_market",
    "output_bucket": "lake",
    "output_prefix": "athena-results/",
    "table": "StockMkt",
}


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """A tool of this virtual environment."""
    return subprocess.run(
        [Path(sys.executable).parent / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["kafka-ec2.yaml", "lake.yaml", "scripts-ec2.yaml"])
def test_templates_have_no_findings(name):
    """cfn-lint, which knows the schema of every resource type, has nothing to say."""
    done = tool("cfn-lint", DEPLOY / name)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The generated files as `python -m deploy.generated` would write them now."""
    return generated.made()


def test_generated_files_are_as_their_definitions_make_them(made):
    """Every generated file is what its definition gives; after a change: python -m deploy.generated"""
    assert len(made) >= 6
    assert [path for path, text in made.items() if (ROOT / path).read_text(encoding="utf-8") != text] == []


def test_a_generated_file_that_was_changed_is_named_and_made_again(monkeypatch, tmp_path, capsys):
    """`--check` names the one file that differs and writes nothing; without it the file is written."""
    texts = {"a.yaml": "right", "b.yaml": "right"}
    for name in texts:
        (tmp_path / name).write_text("right")
    (tmp_path / "b.yaml").write_text("changed by hand")
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "made", lambda: texts)
    monkeypatch.setattr(sys, "argv", ["generated", "--check"])
    assert generated.main() == 1
    assert capsys.readouterr().out.startswith("b.yaml: ")
    assert (tmp_path / "b.yaml").read_text() == "changed by hand"
    monkeypatch.setattr(sys, "argv", ["generated"])
    assert generated.main() == 0
    assert (tmp_path / "b.yaml").read_text() == "right"


def test_generated_files_are_marked(made):
    """.gitattributes lists the generated files, and their first lines say so where the format has comments."""
    marked = re.findall(r"^(\S+) linguist-generated$", (ROOT / ".gitattributes").read_text(), re.MULTILINE)
    assert set(made) <= set(marked)
    for path in ("config.env.example", "deploy/lake.yaml"):
        head = "".join((ROOT / path).read_text().splitlines(keepends=True)[:3])
        assert "enerated by `python -m deploy.generated`" in head, path


def resolved(value: object, names: dict[str, str]) -> object:
    """What CloudFormation makes of Fn::Sub."""
    if isinstance(value, dict) and list(value) == ["Fn::Sub"]:
        text = re.sub(r"\$\{([^!}]+)\}", lambda found: names[found[1]], value["Fn::Sub"])
        return text.replace("${!", "${")
    if isinstance(value, dict):
        return {name: resolved(inner, names) for name, inner in value.items()}
    return [resolved(inner, names) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("record", CURATED)
def test_tables_of_the_template_are_those_of_glue_setup(record):
    """With its parameters filled in, the template's tables are what glue_setup.py would make with the same settings."""
    settings = Settings(s3_bucket="lake", glue_database="market")
    template = yaml.safe_load((DEPLOY / "lake.yaml").read_text())
    names = {"BucketName": "lake", "DatabaseName": "market", "FirstDay": "2026-01-01"}
    landing = catalog.Landing(first_day="2026-01-01", has_hours=record == "ticks")
    raw = template["Resources"][f"Raw{record.capitalize()}"]["Properties"]["TableInput"]
    assert resolved(raw, names) == catalog.raw_table(settings, record, landing)
    curated = template["Resources"][f"Curated{record.capitalize()}"]["Properties"]["TableInput"]
    expected = catalog.curated_table(settings, record)
    assert resolved(curated, names)["StorageDescriptor"] == expected["StorageDescriptor"]


def test_the_role_of_the_template_is_that_of_glue_setup():
    """One definition of what crawler and job may do."""
    template = yaml.safe_load((DEPLOY / "lake.yaml").read_text())
    names = {
        "BucketName": "lake",
        "DatabaseName": "market",
        "WorkgroupName": "w",
        "AWS::Region": "us-east-1",
        "AWS::AccountId": "1",
    }
    found = resolved(template["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"], names)
    assert found == resources.role_policy(Settings(s3_bucket="lake", glue_database="market", athena_workgroup="w"), "1")


# --- policies


def filled(path: Path) -> dict:
    text = path.read_text()
    for name, value in VALUES.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text, path.name
    return json.loads(text)


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> str:
    """What cfn-lint, which takes seconds to start, says to all policies as parts of one template, and to a bad one."""
    policies = {logical(path): filled(path) for path in POLICIES}
    policies["Bad"] = {"Version": "2012-10-17", "Statement": [{"Effect": "Perhaps", "Action": "s3:GetObject"}]}
    resources_of = {
        name: {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": policy}}
        for name, policy in policies.items()
    }
    file = tmp_path_factory.mktemp("policies") / "policies.json"
    file.write_text(json.dumps({"Resources": resources_of}))
    return tool("cfn-lint", "--format", "json", file).stdout


def logical(path: Path) -> str:
    return "".join(part.capitalize() for part in path.stem.split("_"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_fit_the_schema(path, complaints):
    """cfn-lint accepts each policy as part of a template."""
    found = [one for one in json.loads(complaints) if logical(path) in one["Location"]["Path"]]
    assert found == []


def test_the_schema_of_policies_refuses(complaints):
    """That cfn-lint has nothing to say means something: it finds the effect that is none."""
    assert [one for one in json.loads(complaints) if "Bad" in one["Location"]["Path"] and "Perhaps" in one["Message"]]


def test_every_action_has_its_reason():
    """The table of reasons and the policies name the same actions."""
    reasons = set(re.findall(r"^\| ([a-z0-9]+:[A-Za-z]+) \|", (DEPLOY / "iam/README.md").read_text(), re.MULTILINE))
    actions = {action for path in POLICIES for statement in filled(path)["Statement"] for action in statement["Action"]}
    assert actions == reasons


def test_no_policy_allows_everything():
    """No wildcard action; every resource is named, but for actions that have no resource level."""
    without_resource = {
        "athena:ListWorkGroups",
        "athena:ListDataCatalogs",
        "athena:ListEngineVersions",
        "cloudwatch:PutMetricData",
    }
    for path in POLICIES:
        for statement in filled(path)["Statement"]:
            assert not [action for action in statement["Action"] if "*" in action]
            if "*" in statement["Resource"]:
                assert set(statement["Action"]) <= without_resource


def test_the_policy_of_msk_is_json():
    """The policy to paste from deploy/msk.md parses, and names MSK's data-plane actions only."""
    [text] = re.findall(r"```json\n(.*?)```", (DEPLOY / "msk.md").read_text(), re.DOTALL)
    actions = {action for statement in json.loads(text)["Statement"] for action in statement["Action"]}
    assert actions
    assert all(action.startswith("kafka-cluster:") for action in actions)


def test_every_parameter_of_the_broker_is_used():
    """A parameter of kafka-ec2.yaml that does nothing would mislead."""
    template = cfn_yaml.load(str(DEPLOY / "kafka-ec2.yaml"))
    text = (DEPLOY / "kafka-ec2.yaml").read_text()
    assert [name for name in template["Parameters"] if text.count(name) < 2] == []


def test_sums_of_the_costs():
    """Each table of costs adds up to the figure under it, and to the one in its heading."""
    text = (DEPLOY / "README.md").read_text()
    sections = re.findall(r"^### .*?about \$([\d,]+).*?\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 3
    for heading, section in sections:
        figures = [
            float(figure.replace(",", ""))
            for figure in re.findall(r"^\| .* \| ([\d,]+\.\d\d) \|$", section, re.MULTILINE)
        ]
        [total] = [float(figure.replace(",", "")) for figure in re.findall(r"\*\*([\d,]+\.\d\d)\*\*", section)]
        assert len(figures) >= 8
        assert abs(sum(figures) - total) < 0.005
        assert abs(total - float(heading.replace(",", ""))) < 0.02 * total + 1


def test_files_that_the_guide_names_exist():
    """Every file of deploy/ that its README names is there."""
    named = set(
        re.findall(
            r"deploy/([a-z0-9_.-]+\.(?:yaml|yml|md))|`([a-z0-9_.-]+\.(?:yaml|md|example|yml))`",
            (DEPLOY / "README.md").read_text(),
        )
    )
    names = {one or other for one, other in named}
    assert len(names) >= 4
    assert [name for name in names if not (DEPLOY / name).exists()] == []


def test_the_bucket_of_the_template_forgets_as_that_of_glue_setup():
    """The lifecycle rules are those of the definition, in CloudFormation's words."""
    template = yaml.safe_load((DEPLOY / "lake.yaml").read_text())
    rules = template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expected = resources.lifecycle_rules(Settings(s3_bucket="lake"))
    assert {rule["Id"]: (rule["Prefix"], rule["Status"], rule.get("ExpirationInDays")) for rule in rules} == {
        rule["ID"]: (rule["Filter"]["Prefix"], rule["Status"], rule.get("Expiration", {}).get("Days"))
        for rule in expected
    }
