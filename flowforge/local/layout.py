"""What the local platform consists of: its addresses, its processes and what each is told.

A worker is told only what its pool needs. Secrets are in environments and on standard inputs,
never in arguments.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.postgres import identity
from flowforge.local.database import AGENTS, OwnPostgres
from flowforge.local.part import Part
from flowforge.local.state import StateFolder
from flowforge.settings import PROJECT_ROOT, Settings

OPERATIONS = "flowforge-operations"
WORKERS = "flowforge-workers"
POOLS = (OPERATIONS, WORKERS)
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
_LONGEST_TEMPORARY_BYTES = 60
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_ENGINES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "KUBECONFIG")
"""Where sandboxes are made, other than on this machine."""

_NO_KEY = "flowforge-rehearsal-needs-no-key"  # any will do; this one is masked where it appears
_LOOPBACK = "127.0.0.1,localhost,::1"


@dataclass(frozen=True)
class Layout:
    """One platform: where its state is, its ports, its PostgreSQL."""

    settings: Settings
    folder: StateFolder
    ports: Mapping[str, int]
    postgres: OwnPostgres

    @property
    def host(self) -> str:
        """The host by which this machine reaches the server."""
        host = self.settings.host
        return _EVERY_INTERFACE.get(host, f"[{host}]" if ":" in host else host)

    @property
    def api_url(self) -> str:
        """Prefect's API."""
        return f"http://{self.host}:{self.ports['api']}/api"

    @property
    def ui_url(self) -> str:
        """Where people look."""
        return f"http://{self.host}:{self.ports['ui']}"

    @property
    def ready_url(self) -> str:
        """Says whether the server takes a write."""
        return f"http://{self.host}:{self.ports['api']}/ready"

    @property
    def metrics_url(self) -> str:
        """What Prometheus reads."""
        return f"http://{self.host}:{self.ports['metrics']}/metrics"

    def systems(self) -> dict[str, object]:
        """The blocks to save, as `python -m blocks apply` reads them."""
        redis_url = self.settings.redis_url
        caches = {"cache": redis_url.get_secret_value()} if redis_url else {}
        return {
            "servers": {
                "shop": self.postgres.url("shop"),
                "platform": self.postgres.url("postgres", "prefect"),
            },
            "caches": caches,
            "stores": {"backups": {"folder": str(self.folder.backups)}},
        }

    def tool_environment(self) -> dict[str, str]:
        """What a step of `up` is told: where the server is and where the state is."""
        return self._base() | {
            "PREFECT_API_URL": self.api_url,
            "FLOWFORGE_API_URL": self.api_url,
            "FLOWFORGE_STATE": str(self.folder.path),
            "WORKER_CONCURRENCY": str(self.settings.worker_concurrency),
        }

    def ledger_environment(self) -> dict[str, str]:
        """What the ledger's own command is told."""
        return self._base() | {"FLOWFORGE_LEDGER_URL": self.postgres.url("flowforge")}

    def postgres_part(self) -> Part:
        """PostgreSQL; it ends by a fast shutdown, and at once when its supervisor is killed."""
        return Part(
            name="postgres",
            command=tuple(self.postgres.cluster.start_command()),
            environment=self._base(),
            log=str(self.folder.log("postgres")),
            level=0,
            stop_signal="SIGINT",
            stop_seconds=20.0,
            orphan_signal="SIGQUIT",
            pid_file=str(self.folder.postgres / "postmaster.pid"),
        )

    def server_part(self) -> Part:
        """Prefect's server inside FlowForge's shell."""
        told = {name: value for name, value in os.environ.items() if name.startswith("FLOWFORGE_")}
        told |= {name: os.environ[name] for name in (*_PROXIES, *_ENGINES) if name in os.environ}
        told |= {
            "DATABASE_URL": self.postgres.url("prefect"),
            "FLOWFORGE_LEDGER_URL": self.postgres.url("flowforge"),
            "FLOWFORGE_HOST": self.settings.host,
            "FLOWFORGE_STATE": str(self.folder.path),
            "FLOWFORGE_API_PORT": str(self.ports["api"]),
            "FLOWFORGE_UI_PORT": str(self.ports["ui"]),
            "FLOWFORGE_METRICS_PORT": str(self.ports["metrics"]),
            "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), _LOOPBACK))),
            **self._account(),
        }
        if self.settings.public_api_url:
            told["NEXT_PUBLIC_API_URL"] = self.settings.public_api_url
        return Part(
            name="server",
            command=(sys.executable, "-m", "flowforge.server"),
            listens=tuple((self.settings.host, self.ports[n]) for n in ("api", "ui", "metrics")),
            environment=told | self._base(),
            directory=str(PROJECT_ROOT),
            log=str(self.folder.log("server")),
            level=1,
            stop_seconds=10.0,
        )

    @property
    def is_rehearsing(self) -> bool:
        """Whether agent jobs ask no model, because there is no key to ask one with."""
        return self.settings.anthropic_api_key is None

    def model_part(self) -> Part:
        """The rehearsal model, which stands in for the model's API."""
        port = str(self.ports["model"])
        return Part(
            name="model",
            command=(sys.executable, "-m", "flowforge.twin.model", "--port", port),
            environment=self._base(),
            directory=str(PROJECT_ROOT),
            log=str(self.folder.log("model")),
            level=1,
            stop_seconds=5.0,
        )

    def worker_parts(self, warm_sockets: Mapping[str, str]) -> list[Part]:
        """A worker for each pool, and a process that keeps the libraries warm beside it.

        Args:
            warm_sockets: Where the warm process of each pool listens; empty to start runs cold.
        """
        return [self._worker(pool) for pool in POOLS] + [
            self._warm(pool, socket) for pool, socket in warm_sockets.items()
        ]

    def digest(self) -> str:
        """Digest of everything the processes are started with, the code they run included."""
        parts = [self.postgres_part(), self.server_part(), *self.worker_parts({})]
        parts += [self.model_part()] if self.is_rehearsing else []
        warm = self.settings.warm
        return digest([part.to_json() for part in parts], warm, code_of("flowforge", "blocks"))

    def _worker(self, pool: str) -> Part:
        return Part(
            name=_short("worker", pool),
            command=(sys.executable, "-m", "flowforge.local.worker", pool),
            environment=self._pool_environment(pool),
            directory=str(self.settings.home),
            log=str(self.folder.log(_short("worker", pool))),
            level=2,
            stop_seconds=8.0,
        )

    def _warm(self, pool: str, socket: str) -> Part:
        return Part(
            name=_short("warm", pool),
            command=(sys.executable, "-m", "work_pools.warm", socket),
            environment=self._pool_environment(pool),
            directory=str(PROJECT_ROOT),
            log=str(self.folder.log(_short("warm", pool))),
            level=2,
            stop_seconds=5.0,
            is_forking_for_others=True,  # a run it forked is its worker's
        )

    def _pool_environment(self, pool: str) -> dict[str, str]:
        told = self._base() | {
            "PREFECT_API_URL": self.api_url,
            "FLOWFORGE_API_URL": self.api_url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOGGING_LEVEL": "INFO",
            "PREFECT_LOGGING_COLORS": "false",
        }
        if pool == OPERATIONS:
            told["FLOWFORGE_LEDGER_URL"] = self.postgres.url("flowforge")
        else:
            told["FLOWFORGE_LEDGER_URL"] = self.postgres.url(AGENTS, "flowforge")
            told |= self._account()
            told |= {name: os.environ[name] for name in _ENGINES if name in os.environ}
        return told

    def _account(self) -> dict[str, str]:
        """Who pays for the model; without a key, the rehearsal model asks for none that is real."""
        if self.settings.anthropic_api_key is None:
            told = {"ANTHROPIC_API_KEY": _NO_KEY}
            return told | {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.ports['model']}"}
        told = {"ANTHROPIC_API_KEY": self.settings.anthropic_api_key.get_secret_value()}
        if self.settings.anthropic_base_url:
            told["ANTHROPIC_BASE_URL"] = self.settings.anthropic_base_url
        return told

    def _base(self) -> dict[str, str]:
        told = {
            "PATH": _path(os.environ.get("PATH", os.defpath)),
            "HOME": str(Path.home()),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "TMPDIR": self._temporary(),
            "PREFECT_HOME": str(self.folder.prefect_home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "FLOWFORGE_HOME": str(self.settings.home),
            "FLOWFORGE_WARM": "1" if self.settings.warm else "0",
        }
        if self.settings.postgres_bin:
            told["FLOWFORGE_POSTGRES_BIN"] = self.settings.postgres_bin
        return told

    def _temporary(self) -> str:
        # Sockets are made below it, so its path must be short, and another account that runs
        # PostgreSQL must be able to reach it.
        inside = self.folder.temporary
        reachable = identity.choose_identity().owner is None
        if reachable and len(os.fsencode(inside)) <= _LONGEST_TEMPORARY_BYTES:
            return str(inside)
        return tempfile.gettempdir()


def digest(*inputs: object) -> str:
    """A short digest of plain values."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_of(*names: str) -> str:
    """Digest of this installation: Python, the locked libraries and some of our own folders."""
    seen = [platform.python_version(), sys.executable]
    for path in _files(names):
        status = path.stat()
        seen.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return digest(seen)


def _files(names: Iterable[str]) -> Iterable[Path]:
    yield from (path for path in [PROJECT_ROOT / "requirements.lock"] if path.is_file())
    for name in names:
        place = PROJECT_ROOT / name
        if place.is_dir():
            yield from sorted(p for p in place.rglob("*") if p.suffix in _SOURCES)
        elif place.is_file():
            yield place


def _short(kind: str, pool: str) -> str:
    return f"{kind}-{pool.removeprefix('flowforge-')}"


_SOURCES = frozenset({".py", ".sql", ".json", ".yaml", ".mako", ".ini"})


def _path(told: str) -> str:
    """Our own programs first, each folder once: a shell with our environment on is no other one."""
    folders = [str(Path(sys.executable).parent), *told.split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(folders))
