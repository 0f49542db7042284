"""`flowforge sandbox`: where commands of agent jobs run, and the most a job may ask for there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from flowforge import terminal
from flowforge.cli import job_run, saved, systems
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.rules.jobs.profiles import Known, Profile

Name = Annotated[str, typer.Argument(help="what jobs call it, for example `boxes`")]
KindOption = Annotated[str, typer.Option("--kind", help="local, docker or kubernetes")]
Image = Annotated[str | None, typer.Option("--image", help="image of its containers")]
Images = Annotated[
    list[str] | None,
    typer.Option("--allow-image", help="pattern of images a job may ask for; may be repeated"),
]
Cpus = Annotated[float | None, typer.Option("--cpus", help="the most processors for a job")]
Memory = Annotated[int | None, typer.Option("--memory-mb", help="the most memory for a job")]
Disk = Annotated[int | None, typer.Option("--disk-mb", help="the most disk for a job")]
Egress = Annotated[
    list[str] | None,
    typer.Option("--egress", help="host a job may reach; `*` is every public one; repeatable"),
]
Address = Annotated[str | None, typer.Option("--engine", help="where the docker engine listens")]
Namespace = Annotated[str | None, typer.Option("--namespace", help="where pods go")]
RuntimeClass = Annotated[
    str | None, typer.Option("--runtime-class", help="runtime class of pods, such as gvisor")
]
Nodes = Annotated[
    list[str] | None, typer.Option("--node", help="label of the nodes for pods, name=value")
]
Taint = Annotated[str | None, typer.Option("--taint", help="taint of nodes that pods tolerate")]

group = typer.Typer(help="Sandbox profiles of agent jobs, by name.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `sandbox` to the command."""
    group.command("add")(add_profile)
    group.command("list")(list_profiles)
    systems.add_verbs(group, "profile")
    app.add_typer(group, name="sandbox")


def add_profile(
    name: Name,
    kind: KindOption,
    image: Image = None,
    allow_image: Images = None,
    cpus: Cpus = None,
    memory_mb: Memory = None,
    disk_mb: Disk = None,
    egress: Egress = None,
    engine: Address = None,
    namespace: Namespace = None,
    runtime_class: RuntimeClass = None,
    node: Nodes = None,
    taint: Taint = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a profile; what is not given is as the form in the UI has it."""
    names.check_system_name(name, kind="profile")
    given: dict[str, JsonValue] = {
        "kind": kind,
        "image": image,
        "images": list(allow_image or []),
        "cpus": cpus,
        "memory_mb": memory_mb,
        "disk_mb": disk_mb,
        "egress": list(egress or []),
        "address": engine,
        "namespace": namespace,
        "runtime_class": runtime_class,
        "node_selector": dict(job_run.read_labels(node or [])),
        "tolerated_taint": taint,
    }
    value: JsonValue = {field: one for field, one in given.items() if one is not None}
    action = saved.save("profile", name, value, profile)
    systems.print_saved("profile", name, action, "", json)
    if not json:
        said = f"\nTry it on a machine with a worker:\n  flowforge sandbox test {name}"
        terminal.out.print(said, markup=False)


def list_profiles(json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """List profiles, and those this machine can serve."""
    from flowforge.rules.jobs.profiles import Profile

    known = _read(profile)
    usable = {name: one for name, one in known.items() if isinstance(one, Profile)}
    lacking = asyncio.run(_ask_all(usable))
    if json:
        rows = [_row(name, one, lacking.get(name)) for name, one in known.items()]
        terminal.print_json({"profiles": rows})
        return
    told = [(name, *_cells(one, lacking.get(name))) for name, one in known.items()]
    terminal.print_table(("profile", "kind", "at most", "hosts", "here"), told)
    for name, why in lacking.items():
        terminal.out.print(f"{name}  -> {why.hint}", markup=False)


def _read(profile: str | None) -> Known:
    from flowforge.rules.jobs import profiles

    found = saved.ask(["list", "profile", "--fields"], profile)["documents"]
    known = profiles.read({one["name"]: one["fields"] for one in found if "fields" in one})
    return known | {one["name"]: one["where"] for one in found if "fields" not in one}


async def _ask_all(known: dict[str, Profile]) -> dict[str, FlowForgeError]:
    """What keeps this machine from making sandboxes, for each profile of which it cannot."""
    from flowforge.engines.sandboxes.profiles import provider_of, why_not

    asked = [why_not(provider_of(one)) for one in known.values()]
    answers = zip(known, await asyncio.gather(*asked), strict=True)
    return {name: why for name, why in answers if why is not None}


def _cells(one: Profile | str, why: FlowForgeError | None) -> tuple[str, str, str, str]:
    if isinstance(one, str):
        return "?", "", "", one
    return one.where, one.most, one.hosts, why.message if why else "yes"


def _row(name: str, one: Profile | str, why: FlowForgeError | None) -> dict[str, JsonValue]:
    if isinstance(one, str):
        why = Refused(one, hint="Correct or remove this profile.")
        fields: dict[str, JsonValue] = {"name": name}
    else:
        fields = one.model_dump(mode="json")
    lacks: JsonValue = {"message": why.message, "hint": why.hint} if why else None
    return {**fields, "here": why is None, "why_not": lacks}
