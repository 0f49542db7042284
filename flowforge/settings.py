"""The process environment, read once, and its translation into Prefect's settings.

A newcomer meets the six plain names of the architecture document (`DATABASE_URL`, `REDIS_URL`,
`JWT_SECRET`, `ANTHROPIC_API_KEY`, `WORKER_CONCURRENCY`, `NEXT_PUBLIC_API_URL`); everything else
starts with `FLOWFORGE_`. Nobody has to know a `PREFECT_*` name.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flowforge.errors import Refused
from flowforge.rules.jobs.accounts import DEFAULT, Account

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def default_state_dir() -> Path:
    """Where this installation keeps its state: beside a checkout, else in the user's home."""
    if (PROJECT_ROOT / "prefect.yaml").is_file():
        return PROJECT_ROOT / ".flowforge"
    return Path.home() / ".flowforge"


class Settings(BaseSettings):
    """What a FlowForge process is told by its environment."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWFORGE_", frozen=True, extra="ignore", populate_by_name=True
    )

    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """FlowForge's PostgreSQL: Prefect's tables, and ours in schema `flowforge`."""

    own_ledger_url: SecretStr | None = Field(default=None, validation_alias="FLOWFORGE_LEDGER_URL")
    """Where the ledger lives, when it is not in `DATABASE_URL`."""

    redis_url: SecretStr | None = Field(default=None, validation_alias="REDIS_URL")
    jwt_secret: SecretStr | None = Field(default=None, validation_alias="JWT_SECRET")
    """The internal auth string between the shell, Prefect's API and its workers."""

    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")
    """Where the model's API listens, when it is not at Anthropic's."""

    worker_concurrency: int = Field(default=2, ge=1, validation_alias="WORKER_CONCURRENCY")
    """Runs one worker may execute at a time."""

    public_api_url: str | None = Field(default=None, validation_alias="NEXT_PUBLIC_API_URL")
    """The address a browser uses for the API, when it differs from where the server listens."""

    api_url: str | None = Field(
        default=None, validation_alias=AliasChoices("FLOWFORGE_API_URL", "PREFECT_API_URL")
    )
    """The Prefect API this process talks to, ending in `/api`."""

    state: Path = Field(default_factory=default_state_dir)
    """State folder of the local platform (`FLOWFORGE_STATE`)."""

    home: Path = PROJECT_ROOT
    """Folder that holds `flows/` and `prefect.yaml` (`FLOWFORGE_HOME`)."""

    host: str = "127.0.0.1"
    """The address listeners bind to; loopback unless told otherwise."""

    allowed_hosts: str = ""
    """Hosts besides loopback that may ask the server, as a comma list such as
    `ops.example.com,10.0.0.5:8080` (`FLOWFORGE_ALLOWED_HOSTS`)."""

    api_port: int | None = None
    ui_port: int | None = None
    metrics_port: int | None = None
    postgres_port: int | None = None
    model_port: int | None = None
    """A fixed port is refused when taken; an unset one moves to the next free port."""

    listeners: str = ""
    """Descriptors, such as `3,4,5`, of sockets for API, UI and metrics that the server inherits and
    serves in place of taking the ports; whoever keeps them open lets clients wait while the server
    starts again (`FLOWFORGE_LISTENERS`)."""

    postgres_bin: str | None = None
    """Folders with PostgreSQL programs to use before any other, separated like `PATH`."""

    warm: bool = True
    """Whether local pools start runs from a warm process (`FLOWFORGE_WARM=0` turns it off)."""

    webhook_secret: SecretStr | None = None
    """Signs what is sent to the callbacks of agent jobs (`FLOWFORGE_WEBHOOK_SECRET`)."""

    copy_max_age_seconds: int = 7 * 3600
    """Age of a database's newest copy at which people are told."""

    proof_max_age_seconds: int = 30 * 24 * 3600
    """Age of the last proof of any of a database's copies at which people are told."""

    @property
    def account(self) -> Account | None:
        """Who pays for agent jobs, where the environment says it; else a saved account does."""
        if self.anthropic_api_key is None:
            return None
        return Account(
            name=DEFAULT, api_key=self.anthropic_api_key, base_url=self.anthropic_base_url
        )

    @property
    def ledger_url(self) -> SecretStr | None:
        """Where FlowForge's own tables live."""
        return self.own_ledger_url or self.database_url


def read_settings() -> Settings:
    """Read the environment of this process.

    Raises:
        Refused: A variable does not hold what it should; its value is not repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise Refused(
            f"The environment cannot be read: {'; '.join(wrong)}.",
            hint="Correct or unset those variables (port becomes FLOWFORGE_API_PORT and so on).",
        ) from None
