"""`python -m flowforge.ledger upgrade|current`: make the tables, or say which version they have.

The URL comes from `FLOWFORGE_LEDGER_URL` or `DATABASE_URL`, never from the command line.
"""

from __future__ import annotations

import argparse
import sys

from flowforge.errors import FlowForgeError, Refused
from flowforge.ledger import migrate
from flowforge.ledger.upgrades import current
from flowforge.settings import read_settings


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flowforge.ledger", description=__doc__)
    parser.add_argument("verb", choices=("upgrade", "current"))
    verb = parser.parse_args().verb
    try:
        url = read_settings().ledger_url
        if url is None:
            raise Refused(
                "No ledger is named.", hint="Set FLOWFORGE_LEDGER_URL to postgresql://... first."
            )
        run = migrate if verb == "upgrade" else current
        sys.stdout.write(f"{run(url.get_secret_value()) or 'no tables'}\n")
    except FlowForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
