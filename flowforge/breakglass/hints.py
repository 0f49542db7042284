"""What to do, told to somebody who has no server that keeps names, addresses and keys.

The engines' hints say how to save what was wrong; here nothing is saved, so it is said where the
value came from.
"""

from __future__ import annotations

from typing import Any

import typer.core

from flowforge.errors import FlowForgeError

_HERE = {
    "`flowforge store": "Give the bucket or folder with --store, where it listens with "
    "--endpoint-url, its region with AWS_REGION, and its keys with AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.",
    "`flowforge database": "Correct the URL: it is in the variable that --url-env names, or comes "
    "on standard input.",
    "`flowforge key": "Give the file of a recovery key with --key or FLOWFORGE_RECOVERY_KEY_FILE.",
    "`flowforge backup": "`list` shows the copies there are, for --server, --database and --copy.",
}


def without_a_server(hint: str) -> str:
    """The hint as it is to be followed here."""
    return next((here for words, here in _HERE.items() if words in hint), hint)


class Words(typer.core.TyperGroup):
    """The words of break-glass, whose errors say what can be done here."""

    def invoke(self, ctx: Any) -> Any:  # typer does not export the type of its own context
        """Run a word."""
        try:
            return super().invoke(ctx)
        except FlowForgeError as error:
            error.hint = without_a_server(error.hint)
            raise
