"""Files of a repository that are written to steer an agent. They are not from who gave the job."""

from __future__ import annotations

_NAMES = {
    *("agents.md", "claude.md", "claude.local.md", "gemini.md", "copilot-instructions.md"),
    *(".cursorrules", ".clinerules", ".windsurfrules", ".mcp.json", "mcp.json"),
}
_FOLDERS = {".claude", ".cursor", ".clinerules", ".windsurf", ".codex", ".gemini"}


def steers_agents(path: str) -> bool:
    """Whether tools that run agents would take a file for instructions or settings."""
    *folders, name = path.casefold().split("/")
    return name in _NAMES or not _FOLDERS.isdisjoint(folders)
