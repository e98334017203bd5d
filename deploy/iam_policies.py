"""IAM policies of deploy/iam, filled in; and deploy/iam/etl_job.json, which `python -m deploy.generated` writes.

python -m deploy.iam_policies               print the policy of the ETL job with its placeholders
python -m deploy.iam_policies consumer      print the policy of a role with the settings filled in
"""

import argparse
import json

from pipeline import aws, terminal
from pipeline.doctor.account import ROLES, policy
from pipeline.settings import Settings, load_settings
from pipeline.tables import resources

# The folders of the definitions end in a slash, the placeholders stand for text that may be empty.
_ROOT, _OUTPUT = "the-root", "the-output"


def etl_job() -> str:
    """Return the policy of the role that glue_setup.py makes, with the placeholders of deploy/iam."""
    settings = Settings(
        s3_bucket="${bucket}",
        s3_prefix=_ROOT,
        aws_region="${region}",
        glue_database="${database}",
        athena_workgroup="${workgroup}",
        athena_output=f"s3://${{output_bucket}}/{_OUTPUT}",
    )
    document = resources.role_policy(settings, "${account}")
    lines = ",\n".join(f"    {json.dumps(statement)}" for statement in document["Statement"])
    made = f'{{\n  "Version": "{document["Version"]}",\n  "Statement": [\n{lines}\n  ]\n}}\n'
    return made.replace(f"{_ROOT}/", "${root}").replace(f"{_OUTPUT}/", "${output_prefix}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.iam_policies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", nargs="?", choices=ROLES, help="print this role's policy with the settings filled in")
    role = parser.parse_args().role
    if role is None:
        print(etl_job(), end="")
        return terminal.EXIT_DONE
    settings = load_settings(required=["s3_bucket"])
    with aws.naming("AWS credentials"):
        account = aws.client(settings, "sts").get_caller_identity()["Account"]
    print(json.dumps(policy(settings, role, account), indent=2))
    return terminal.EXIT_DONE


if __name__ == "__main__":
    terminal.run(main)
