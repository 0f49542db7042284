"""The steps that turn running processes into a platform: ledger, blocks, pools, deployments.

Each is done as an operator would do it, by a command of its own, and skipped when what it depends
on is as it was when it last succeeded.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from flowforge.local import server_api, session
from flowforge.local.database import AGENTS
from flowforge.local.layout import POOLS, Layout, code_of, digest
from flowforge.local.processes import MARK, mark_of, send
from flowforge.local.published import Run
from flowforge.local.session import Session
from flowforge.local.state import State
from flowforge.local.steps import Abort, Progress, Step, run_command, run_steps
from flowforge.settings import PROJECT_ROOT
from flowforge.twin import shop

_POSTGRES_SECONDS = 60.0
_SERVER_SECONDS = 120.0
_WORKER_SECONDS = 60.0
_ASK_WARM_SOCKETS = (
    "import json, sys; from work_pools import warm; "
    "print(json.dumps({pool: str(warm.socket_path(pool)) for pool in sys.argv[1:]}))"
)


class Setup:
    """The steps of one start, over a supervisor that is ours or one that was found."""

    def __init__(
        self, layout: Layout, state: State, progress: Progress, own: Session | None
    ) -> None:
        self.layout = layout
        self.folder = layout.folder
        self.state = state
        self.progress = progress
        self.own = own

    def run(self) -> None:
        """Do everything."""
        assert self.own is not None and self.own.process is not None
        self.state.supervisor_pid = self.own.process.pid
        self.folder.write(self.state)
        run_steps(self._steps(), self.state.steps, self.progress, self._remember)

    def heal(self, run: Run) -> None:
        """Start again what is dead, and do again what has changed."""
        dead = [name for name, seen in run.parts.items() if not seen.is_running]
        if dead:
            self.progress.say(f"not running: {', '.join(sorted(dead))}; starting again")
            send(run.supervisor, signal.SIGHUP)
        abort = Abort()
        for name in run.parts:
            self._wait(name, abort, _SERVER_SECONDS)
        run_steps(self._steps(), self.state.steps, self.progress, self._remember)

    def _remember(self, step: Step) -> None:
        if step.inputs is not None:
            self.state.steps[step.title] = step.inputs
            self.folder.write(self.state)

    def _steps(self) -> list[Step]:
        layout, home = self.layout, self.layout.settings.home
        systems = json.dumps(layout.systems())
        where = digest(layout.api_url, str(home), layout.settings.warm, str(layout.folder.path))
        code = code_of("blocks", "work_pools", "flowforge/rules")
        deploying = code_of("flowforge/deploy", "flowforge/deploy.py", "flowforge/automations.py")
        flows = code_of(*(str(home / name) for name in ("flows", "tasks", "prefect.yaml")))
        starting = [
            Step("PostgreSQL", self._start_postgres),
            Step("server", self._start_server, ("PostgreSQL",)),
            Step("workers", self._start_workers, ("work pools", "ledger")),
        ]
        return (starting if self.own is not None else []) + [
            Step(
                "ledger",
                self._migrate_ledger,
                self._after("PostgreSQL"),
                code_of("flowforge/ledger"),
            ),
            Step("sample shop", self._load_shop, self._after("PostgreSQL"), shop.VERSION),
            Step("blocks", self._save_blocks, self._after("server"), digest(systems, code)),
            Step(
                "work pools",
                self._apply_pools,
                self._after("server"),
                digest(where, code, layout.settings.worker_concurrency),
            ),
            Step(
                "deployments",
                self._deploy,
                ("work pools", "blocks"),
                digest(where, code, deploying, flows),
            ),
        ]

    def _after(self, part: str) -> tuple[str, ...]:
        return (part,) if self.own is not None else ()  # what was found running stands already

    def _start_postgres(self, abort: Abort) -> str:
        assert self.own is not None
        own = self.layout.postgres
        if made := own.create():
            self.state.steps.clear()  # whatever was done before was done in databases that are gone
        self.folder.write_secrets(dict(own.passwords), own.url("flowforge"))
        self.own.add(self.layout.postgres_part())
        self._wait("postgres", abort, _POSTGRES_SECONDS)
        own.furnish()
        version = own.cluster.installation.version
        return f"{version} on port {own.port}{', new' if made else ''}"

    def _start_server(self, abort: Abort) -> str:
        assert self.own is not None
        self.own.add(self.layout.server_part())
        self._wait("server", abort, _SERVER_SECONDS)
        return self.layout.ui_url

    def _start_workers(self, abort: Abort) -> str:
        assert self.own is not None
        sockets = self._warm_sockets(abort) if self.layout.settings.warm else {}
        parts = self.layout.worker_parts(sockets)
        parts += [self.layout.model_part()] if self.layout.is_rehearsing else []
        for part in parts:
            self.own.add(part)
        for part in parts:
            self._wait(part.name, abort, _WORKER_SECONDS)
        return ", ".join(part.name for part in parts)

    def _wait(self, part: str, abort: Abort, seconds: float) -> None:
        def answers() -> bool:
            if part == "postgres":
                return self.layout.postgres.is_ready()
            return part != "server" or server_api.is_ready(self.layout.ready_url)

        session.wait_until(answers, self.folder.path, part, self.folder.log(part), seconds, abort)

    def _migrate_ledger(self, abort: Abort) -> str:
        command = [sys.executable, "-m", "flowforge.ledger", "upgrade"]
        environment = self.layout.ledger_environment()
        self._run("ledger", command, environment, PROJECT_ROOT, abort)
        granting = [sys.executable, "-m", "flowforge.ledger", "grant", "--role", AGENTS]
        self._run("ledger", granting, environment, PROJECT_ROOT, abort)
        return ""

    def _load_shop(self, abort: Abort) -> str:
        return shop.load(self.layout.postgres.url("shop"))

    def _save_blocks(self, abort: Abort) -> str:
        command = [sys.executable, "-m", "blocks", "apply"]
        told = json.dumps(self.layout.systems())
        environment = self.layout.tool_environment()
        self._run("blocks", command, environment, PROJECT_ROOT, abort, told)
        return "servers shop, platform; store backups"

    def _apply_pools(self, abort: Abort) -> str:
        command = [sys.executable, "-m", "work_pools"]
        environment = self.layout.tool_environment()
        self._run("work-pools", command, environment, PROJECT_ROOT, abort)
        return ""

    def _deploy(self, abort: Abort) -> str:
        command = [sys.executable, "-m", "flowforge.deploy"]
        environment = self.layout.tool_environment()
        self._run("deployments", command, environment, self.layout.settings.home, abort)
        return ""

    def _warm_sockets(self, abort: Abort) -> dict[str, str]:
        command = [sys.executable, "-c", _ASK_WARM_SOCKETS, *POOLS]
        environment = self.layout.tool_environment()
        said = self._run("warm", command, environment, PROJECT_ROOT, abort)
        sockets: dict[str, str] = json.loads(said)
        return sockets

    def _run(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        directory: Path,
        abort: Abort,
        told: str = "",
    ) -> str:
        return run_command(
            command,
            log=self.folder.log(name),
            environment=environment | {MARK: mark_of(self.folder.path, name)},
            directory=directory,
            abort=abort,
            told=told,
        )
