"""`python -m flowforge.ledger upgrade|current|grant`: make tables, name their version, open them.

`grant --role NAME` lets a role run agent jobs and nothing else.

The URL comes from `FLOWFORGE_LEDGER_URL` or `DATABASE_URL`, never from the command line.
"""

from __future__ import annotations

import argparse
import sys

from flowforge.errors import FlowForgeError, Refused
from flowforge.ledger import migrate
from flowforge.ledger.rights import grant_jobs
from flowforge.ledger.upgrades import current
from flowforge.settings import read_settings


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flowforge.ledger", description=__doc__)
    parser.add_argument("verb", choices=("upgrade", "current", "grant"))
    parser.add_argument("--role", help="who may run agent jobs from now on")
    options = parser.parse_args()
    if (options.verb == "grant") != (options.role is not None):
        parser.error("grant needs --role, and nothing else takes it")
    try:
        url = read_settings().ledger_url
        if url is None:
            raise Refused(
                "No ledger is named.", hint="Set FLOWFORGE_LEDGER_URL to postgresql://... first."
            )
        sys.stdout.write(f"{_run(options, url.get_secret_value())}\n")
    except FlowForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _run(options: argparse.Namespace, url: str) -> str:
    if options.verb == "grant":
        grant_jobs(url, options.role)
        return f"{options.role} may run agent jobs"
    return (migrate if options.verb == "upgrade" else current)(url) or "no tables"


if __name__ == "__main__":
    sys.exit(main())
