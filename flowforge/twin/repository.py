"""A small Git repository with a bug, for the agent job of the tour."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flowforge.errors import Refused

PROMPT = (
    "The tests of this repository fail. Find out why, repair it with as small a change as "
    "possible, and run the tests again."
)
_FILES: Mapping[str, str] = {
    "README.md": "# Slugs\n\nTurns titles into names for URLs. Run the tests with `make test`.\n",
    "Makefile": "test:\n\tpython3 -m unittest -v\n\n.PHONY: test\n",
    ".gitignore": "__pycache__/\n",
    "slugs.py": (
        '"""Names for URLs."""\n\n\n'
        "def slug(title: str) -> str:\n"
        '    """Letters and digits of a title, in small letters, joined by hyphens."""\n'
        '    words = re.findall(r"[a-z0-9]+", title.casefold())\n'
        '    return "-".join(words)\n'
    ),
    "test_slugs.py": (
        "import unittest\n\nfrom slugs import slug\n\n\n"
        "class SlugTest(unittest.TestCase):\n"
        "    def test_words_are_joined(self):\n"
        '        self.assertEqual(slug("Hello, World!"), "hello-world")\n\n'
        "    def test_nothing_is_left_of_punctuation(self):\n"
        '        self.assertEqual(slug("?!"), "")\n\n\n'
        'if __name__ == "__main__":\n'
        "    unittest.main()\n"
    ),
}
_AUTHOR = ("-c", "user.name=FlowForge", "-c", "user.email=tour@flowforge.invalid")


def make(folder: Path) -> Path:
    """Make the repository, anew if it is there, and return its folder.

    Raises:
        Refused: Git is not installed.
    """
    git = shutil.which("git")
    if git is None:
        raise Refused("Git is not installed.", hint="Install it (`apt install git`).")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        (*_AUTHOR, "commit", "-q", "-m", "A slug for every title"),
    ):
        subprocess.run([git, *arguments], cwd=folder, env=environment, check=True)
    return folder
