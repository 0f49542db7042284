"""Where the commands of agent jobs run, and how much they may have there."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block
from pydantic import Field, ValidationError, model_validator

from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.profiles import Kind, Profile


class SandboxProfile(Block):
    """One kind of sandbox, with the most that a job may ask for in it.

    A job names it in `sandbox.profile`. Without any such block there is `default`: sandboxes of
    the worker's own machine, without ceilings of their own.
    """

    _block_type_name = "Sandbox profile"
    _block_type_slug = "flowforge-sandbox-profile"
    _description = "Where commands of agent jobs run, and the most a job may ask for there."

    kind: Kind = Field(
        default="local",
        description="local: the worker's own kernel; docker: an engine; kubernetes: a cluster",
    )
    image: str | None = Field(
        default=None, description="image of containers, with Python 3.9 or newer as python3"
    )
    images: list[str] = Field(
        default_factory=list,
        description="shell patterns of other images that a job may ask for; none by default",
    )
    cpus: float = Field(default=4.0, description="the most processors a job may ask for")
    memory_mb: int = Field(default=8192, description="the most memory, in MiB")
    disk_mb: int = Field(default=16_384, description="the most disk, in MiB")
    egress: list[str] = Field(
        default_factory=list,
        description="hosts a job may ask to reach, such as lib.example or *.example.org; "
        "* is every public one; none by default",
    )
    address: str | None = Field(
        default=None,
        description="docker: where the engine listens, such as unix:///var/run/docker.sock; "
        "empty for that of the worker's environment",
    )
    namespace: str | None = Field(
        default=None, description="kubernetes: where pods go; empty for flowforge-sandboxes"
    )
    runtime_class: str | None = Field(
        default=None, description="kubernetes: such as gvisor, where the cluster has one"
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="kubernetes: labels of the nodes that pods go to"
    )
    tolerated_taint: str | None = Field(
        default=None, description="kubernetes: a taint of those nodes that pods put up with"
    )

    @model_validator(mode="after")
    def _is_a_profile(self) -> SandboxProfile:
        try:
            self.profile("new")
        except ValidationError as error:
            raise ValueError(profiles.say(error)) from None
        return self

    def profile(self, name: str) -> Profile:
        """The plain value engines work with."""
        fields: dict[str, Any] = self.model_dump(include=set(Profile.model_fields))
        return Profile(name=name, **fields)

    @classmethod
    def of(cls, profile: Profile) -> SandboxProfile:
        """The block that says the same as a profile."""
        return cls(**profile.model_dump(exclude={"name"}))

    @property
    def where(self) -> str:
        """The place and its ceilings."""
        plain = self.profile("new")
        return f"{plain.where}: up to {plain.most}; hosts: {plain.hosts}"
