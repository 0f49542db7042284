"""`python -m flowforge.breakglass {list,verify,restore,undo,backup}`."""

from __future__ import annotations

from flowforge import terminal
from flowforge.breakglass.commands import app

if __name__ == "__main__":
    terminal.run(app, "python -m flowforge.breakglass")
