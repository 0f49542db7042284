"""Tools that copy a server's files: all of its databases at once, for its own major version only.

They are measured beside the others because people choose between both kinds. Such a copy cannot be
brought into another server, so only the taking is compared; what the server logs meanwhile, which
these need on top of it, is not counted.
"""

from __future__ import annotations

import shlex
import shutil

from bench.contenders import Contender, Ground, shell
from bench.shelves import BUCKET, KEY
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import FolderAddress, S3Address

NEWEST_MAJOR = 15
"""The newest server that these read as Debian 12 has them, by their release notes."""


def pgbackrest(server: Installation) -> Contender:
    """Its whole copy, by two processes, with the fastest gzip."""

    def copy(ground: Ground) -> list[str]:
        place = ground.shelf.address(made.corner)
        assert isinstance(place, FolderAddress)
        common = ["pgbackrest", "--stanza=bench", f"--repo1-path={place.folder}"]
        common += [f"--lock-path={ground.temporary}", "--log-level-file=off"]
        common += [f"--pg1-path={ground.data}", f"--pg1-socket-path={ground.address.host}"]
        common += [f"--pg1-user={ground.address.user}", "--log-level-console=error"]
        taking = [
            "--type=full",
            "--compress-type=gz",
            "--compress-level=1",
            "--process-max=2",
            "--start-fast",
        ]
        taking += ["--no-archive-check", "--repo1-retention-full=9"]
        first, second = [*common, "stanza-create"], [*common, *taking, "backup"]
        return shell(f"{shlex.join(first)} && {shlex.join(second)}")

    made = Contender("pgBackRest", copy, lacking=_lacking("pgbackrest", server))
    return made


def barman(server: Installation) -> Contender:
    """`barman-cloud-backup` into the bucket, by two processes, with gzip."""

    def copy(ground: Ground) -> list[str]:
        place = ground.shelf.address(made.corner)
        assert isinstance(place, S3Address)
        command = ["barman-cloud-backup", "--endpoint-url", str(place.endpoint_url), "--gzip"]
        command += ["--jobs", "2", "--immediate-checkpoint", "-U", ground.address.user]
        command += ["-h", ground.address.host, "-p", str(ground.address.port)]
        command += [f"s3://{BUCKET}/{made.corner}", "bench"]
        keys = [f"AWS_ACCESS_KEY_ID={KEY}", f"AWS_SECRET_ACCESS_KEY={KEY}"]
        return ["env", *keys, f"TMPDIR={ground.temporary}", *command]

    program = "barman-cloud-backup"
    made = Contender(program, copy, lacking=_lacking(program, server))
    return made


def _lacking(program: str, server: Installation) -> str | None:
    if shutil.which(program) is None:
        return f"{program} is not here"
    if server.major > NEWEST_MAJOR:
        return f"PostgreSQL {server.major} is too new for it"
    return None
