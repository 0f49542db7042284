"""Sandbox profiles: where the commands of jobs run, and the most a job may ask for there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from flowforge.rules.jobs import egress
from flowforge.rules.jobs.spec import MOST_CPUS, MOST_MB, Name, SandboxChoice, check_host
from flowforge.rules.jobs.submission import Problem
from flowforge.rules.values import Value

Kind = Literal["local", "docker", "kubernetes"]

ANY = "*"
"""Among the hosts of a profile: every host of the public network."""

_ONLY_OF: Mapping[str, Kind] = {
    "address": "docker",
    "namespace": "kubernetes",
    "runtime_class": "kubernetes",
    "node_selector": "kubernetes",
    "tolerated_taint": "kubernetes",
}


def _engine(address: str) -> str:
    if not address.startswith(("unix:///", "tcp://")) or "@" in address:
        raise ValueError("say it as unix:///var/run/docker.sock or tcp://HOST:PORT")
    return address


def _host(name: str) -> str:
    return name if name == ANY else check_host(name)


class Profile(Value):
    """One way to make sandboxes, and its ceilings."""

    name: Name
    kind: Kind = "local"
    image: str | None = None
    """Of containers; the provider's own when `None`."""

    images: tuple[str, ...] = ()
    """Shell patterns of other images that a job may ask for."""

    cpus: float = Field(default=4.0, gt=0, le=MOST_CPUS)
    memory_mb: int = Field(default=8192, ge=64, le=MOST_MB)
    disk_mb: int = Field(default=16_384, ge=16, le=MOST_MB)
    egress: tuple[Annotated[str, BeforeValidator(str.lower), AfterValidator(_host)], ...] = ()
    """Hosts a job may ask for; `ANY` for all of the public network."""

    address: Annotated[str, AfterValidator(_engine)] | None = None
    """Of the docker engine; that of the environment when `None`."""

    namespace: Name | None = None
    runtime_class: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerated_taint: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_none(cls, given: object) -> object:
        """A form that was left empty gives an empty text."""
        if isinstance(given, Mapping):
            return {name: value for name, value in given.items() if value not in ("", None)}
        return given

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Profile:
        for field, kind in _ONLY_OF.items():
            if getattr(self, field) and self.kind != kind:
                raise ValueError(
                    f"{field} is for {kind} sandboxes, and this profile is {self.kind}"
                )
        if self.kind == "local" and (self.image or self.images):
            raise ValueError("local sandboxes have no images; choose the kind docker or kubernetes")
        return self

    @property
    def where(self) -> str:
        """The place in a few words."""
        if self.kind == "docker":
            return f"docker at {self.address}" if self.address else "docker"
        return f"kubernetes in {self.namespace}" if self.namespace else self.kind

    @property
    def most(self) -> str:
        """The ceilings in a few words."""
        return f"{self.cpus:g} CPUs, {self.memory_mb} MB of memory, {self.disk_mb} MB of disk"

    @property
    def hosts(self) -> str:
        """The hosts in a few words."""
        return "any public host" if ANY in self.egress else ", ".join(self.egress) or "none"


DEFAULT = Profile(name="default", cpus=MOST_CPUS, memory_mb=MOST_MB, disk_mb=MOST_MB, egress=(ANY,))
"""What there is without any document: sandboxes of the worker's own machine."""

Known = Mapping[str, Profile | str]
"""Every profile by name; one that cannot be read is the reason why."""


def read(documents: Mapping[str, Mapping[str, object]]) -> dict[str, Profile | str]:
    """Read the saved profiles, and add the one that needs no document.

    Args:
        documents: Their fields, by name.
    """
    found: dict[str, Profile | str] = {DEFAULT.name: DEFAULT}
    for name, fields in sorted(documents.items()):
        try:
            found[name] = Profile.model_validate({**fields, "name": name})
        except ValidationError as error:
            found[name] = say(error)
    return found


def say(error: ValidationError) -> str:
    """What is wrong with a profile, field by field, without the values."""
    wrong = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(_say_one(one["loc"], one["msg"]) for one in wrong)


def _say_one(place: Sequence[int | str], message: str) -> str:
    field = ".".join(str(part) for part in place[:2])
    return (f"{field}: " if field else "") + message.removeprefix("Value error, ")


def find_problems(choice: SandboxChoice, known: Known) -> list[Problem]:
    """Everything a job asks for that its profile does not give.

    Args:
        choice: What it asks for.
        known: The profiles there are.
    """
    profile = known.get(choice.profile)
    if profile is None:
        there = ", ".join(sorted(known))
        message = f"There is no sandbox profile {choice.profile!r}; there are: {there}."
        return [Problem(field="sandbox.profile", message=message)]
    if isinstance(profile, str):
        message = f"The sandbox profile {choice.profile} is not usable: {profile}."
        return [Problem(field="sandbox.profile", message=message)]
    return [
        *_above_ceilings(choice, profile),
        *_of_image(choice, profile),
        *_of_hosts(choice, profile),
    ]


def _above_ceilings(choice: SandboxChoice, profile: Profile) -> list[Problem]:
    asked = (
        ("cpus", choice.cpus, profile.cpus),
        ("memory_mb", choice.memory_mb, profile.memory_mb),
        ("disk_mb", choice.disk_mb, profile.disk_mb),
    )
    return [
        Problem(
            field=f"sandbox.{field}",
            message=f"{wanted:.10g} is more than the {most:.10g} of the profile {profile.name}.",
        )
        for field, wanted, most in asked
        if wanted > most
    ]


def _of_image(choice: SandboxChoice, profile: Profile) -> list[Problem]:
    image = choice.image
    if image is None or profile.kind == "local" or image == profile.image:
        return []
    if any(fnmatchcase(image, pattern) for pattern in profile.images):
        return []
    given = ", ".join(profile.images) or "its own alone"
    message = f"{image} is no image of the sandbox profile {profile.name}, which gives {given}."
    return [Problem(field="sandbox.image", message=message)]


def _of_hosts(choice: SandboxChoice, profile: Profile) -> list[Problem]:
    if ANY in profile.egress:
        return []
    found = []
    for place, host in enumerate(choice.egress):
        name, _, port = host.partition(":")
        if not egress.is_allowed(profile.egress, name, int(port or egress.HTTPS)):
            message = f"{host} is no host of the sandbox profile {profile.name}: {profile.hosts}."
            found.append(Problem(field=f"sandbox.egress.{place}", message=message))
    return found
