"""Regenerate the files that are kept in the repository and made from definitions.

  python -m deploy.generated            write them
  python -m deploy.generated --check    write nothing; name the files that differ from their definition

Exit code 1 when a file differs. The result depends on the code alone: config.env and the environment's settings are
left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from deploy import iam_policies, lake_template
from pipeline import settings, terminal

ROOT = Path(__file__).parent.parent


def made() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    return {
        "config.env.example": settings.example(),
        "deploy/lake.yaml": lake_template.text(),
        "deploy/iam/etl_job.json": iam_policies.etl_job(),
        **_dashboards(),
    }


def _dashboards() -> dict[str, str]:
    """By the commands that a user would run: each dashboard's generator is its own."""
    with tempfile.TemporaryDirectory() as folder:
        template = _run("dashboards.quicksight", "template", folder=folder)
        _run("dashboards.tableau", "workbook", "--output", folder, folder=folder)
        tableau = {
            f"dashboards/tableau/{path.name}": path.read_text(encoding="utf-8")
            for path in sorted(Path(folder).iterdir())
        }
    return {"dashboards/quicksight/stock_market.template.json": template, **tableau}


def _run(module: str, *arguments: str, folder: str) -> str:
    """Run a module in a folder without a config.env, and without settings in the environment."""
    names = {setting.name.upper() for setting in fields(settings.Settings)}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.generated", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file differs")
    is_check = parser.parse_args().check
    texts = made()
    differing = [path for path, text in texts.items() if _kept(path) != text]
    for path in differing:
        print(f"{path}: differs from its definition; python -m deploy.generated" if is_check else path)
        if not is_check:
            (ROOT / path).write_text(texts[path], encoding="utf-8")
    if not differing:
        print(f"{len(texts)} files are as their definitions make them")
    return terminal.EXIT_FAILED if is_check and differing else terminal.EXIT_DONE


def _kept(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


if __name__ == "__main__":
    terminal.run(main)
