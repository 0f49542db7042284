"""`python -m flowforge.deploy [--check] [--json]`: deploy the folder FLOWFORGE_HOME names."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from flowforge.deploy import deploy
from flowforge.deploy.report import error_to_json, print_report, to_json
from flowforge.errors import FlowForgeError
from flowforge.settings import read_settings

DIFFERS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit code 0 done, 1 unavailable, 2 differs (with --check), 3 refused."""
    parser = argparse.ArgumentParser(prog="python -m flowforge.deploy", description=__doc__)
    parser.add_argument("--check", action="store_true", help="print the difference; exit 2 if any")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return run(check=options.check, as_json=options.json)


def run(*, check: bool, as_json: bool) -> int:
    """Deploy or check, print the outcome, and return the exit code."""
    out = Console(highlight=False, soft_wrap=True)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        report = deploy(read_settings().home, check=check)
    except FlowForgeError as error:
        if as_json:
            sys.stdout.write(error_to_json(error) + "\n")
        else:
            err.print(f"{type(error).__name__.lower()}: {error.message}", style="red", markup=False)
            err.print(f"  -> {error.hint}", markup=False)
        return error.exit_code
    if as_json:
        sys.stdout.write(to_json(report, check=check) + "\n")
    else:
        print_report(report, check=check, out=out, err=err)
    return DIFFERS if check and report.differs else 0


if __name__ == "__main__":
    sys.exit(main())
