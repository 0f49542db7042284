"""As whom to run PostgreSQL, which refuses to run as root.

An ordinary user runs it as themself. Root enters a user namespace in which it appears as an
ordinary user: files stay root's own, no account and no change of rights is needed. Where user
namespaces are forbidden, an existing unprivileged account is used through `setpriv`.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flowforge.errors import Refused

_NAMESPACE = ("unshare", "-U", "--map-user=1000", "--map-group=1000")
_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class Identity:
    """The way PostgreSQL programs are started here."""

    kind: str
    """`self`, `user namespace` or `account NAME`."""

    prefix: tuple[str, ...]
    """Words put before a server program."""

    daemon_prefix: tuple[str, ...]
    """The same for one that keeps running: it also dies with whoever started it."""

    owner: int | None = None
    """Account that must own the data folder, when it is another one."""

    def take_over(self, folder: Path) -> None:
        """Give a new, empty folder to the account that will run PostgreSQL.

        Raises:
            Refused: The account cannot reach the folder.
        """
        if self.owner is None:
            return
        os.chown(folder, self.owner, -1)
        reach = subprocess.run([*self.prefix, "test", "-w", str(folder)], timeout=10, check=False)
        if reach.returncode != 0:
            raise Refused(
                f"PostgreSQL would run as {self.kind}, which cannot reach {folder}.",
                hint="Set FLOWFORGE_STATE to a folder that account can reach, such as "
                "/var/lib/flowforge, or start FlowForge as an ordinary user.",
            )


@functools.cache
def choose_identity() -> Identity:
    """Find the way PostgreSQL can run here.

    Raises:
        Refused: This is root, user namespaces are forbidden and no usable account exists.
    """
    if os.geteuid() != 0:
        return Identity("self", (), ())
    if _works([*_NAMESPACE, "true"]):
        dies_along = (*_NAMESPACE, "--fork", "--kill-child=SIGQUIT")
        return Identity("user namespace", _NAMESPACE, dies_along)
    for account in _ACCOUNTS:
        if identity := _as_account(account):
            return identity
    raise Refused(
        "PostgreSQL does not run as root, user namespaces are forbidden here and there is no "
        "account to run it as.",
        hint="Start FlowForge as an ordinary user, or create one: useradd --system postgres.",
    )


def _as_account(name: str) -> Identity | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    ids = (f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    prefix = ("setpriv", *ids)
    if not _works([*prefix, "true"]):
        return None
    daemon_prefix = ("setpriv", *ids, "--pdeathsig=QUIT")
    return Identity(f"account {name}", prefix, daemon_prefix, owner=entry.pw_uid)


def _works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    tried = subprocess.run(command, capture_output=True, timeout=10, check=False)
    return tried.returncode == 0
