"""`flowforge redis`: name a Redis, copy it, see what putting a copy back would do, do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from flowforge import terminal
from flowforge.cli import following, saved, systems
from flowforge.cli.backups import NoWait, StoreOption
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.redis_addresses import AnyRedis, ElastiCacheAddress, parse_redis_url
from flowforge.terminal import JsonFlag, ProfileOption

BACKUP = "backup-redis/cache-backup"
RESTORE = "restore-redis/on-demand"

Name = Annotated[str, typer.Argument(help="name the Redis was saved under, for example `cache`")]
CopyOption = Annotated[str, typer.Option("--copy", help="name of the copy, or `latest`")]
To = Annotated[
    str | None, typer.Option("--to", help="Redis to put it into; by default the copy's own")
]

group = typer.Typer(help="Redis servers, by name: copied, and put back.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `redis` to the command."""
    group.command("add", context_settings=systems.TAKES_MORE)(add_redis)
    systems.add_list(group, "cache")
    systems.add_verbs(group, "cache")
    group.command("backup")(run_backup)
    group.command("plan")(plan_restore)
    group.command("apply")(apply_restore)
    app.add_typer(group, name="redis")


def add_redis(
    context: typer.Context,
    name: Name,
    url_env: systems.UrlEnv = None,
    no_test: systems.NoTest = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a Redis; its URL is asked for, or read from standard input."""
    systems.check_name(name, "Redis", context.args, "redis")
    url = systems.read_secret(url_env, f"Redis URL of {name} (not shown): ", "redis", name)
    address = parse_redis_url(url, name=name)
    found = {} if no_test else _try(address)
    action = saved.save("cache", name, url, profile)
    if json:
        terminal.print_json({"kind": "cache", "name": name, "action": action, **found})
        return
    terminal.print_facts({"saved": f"{name} ({action})", "where": address.where, **found})
    terminal.out.print(f"\nBack it up:\n  flowforge redis backup {name}", markup=False)


def run_backup(
    name: Name,
    store: StoreOption = None,
    no_wait: NoWait = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Copy a Redis, prove the copy, and print the evidence."""
    parameters = _parameters(name, store)
    if no_wait:
        following.print_started(following.start(profile, BACKUP, **parameters), json)
        return
    following.print_evidence(*following.run_to_end(profile, BACKUP, **parameters), json)


def plan_restore(
    name: Name,
    copy: CopyOption = "latest",
    to: To = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say what putting a copy back would do; print the hash to apply."""
    parameters = _parameters(name, store, copy, to)
    run, operation = following.run_to_end(profile, RESTORE, action="plan", **parameters)
    if json:
        terminal.print_json({"run": following.run_json(run), **operation.facts})
        return
    _print_plan(operation.facts)


def apply_restore(
    name: Name,
    plan: Annotated[str, typer.Option("--plan", help="hash that `redis plan` printed")],
    copy: CopyOption = "latest",
    to: To = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Put a copy back as planned; what was there is copied first."""
    parameters = _parameters(name, store, copy, to) | {"action": "apply", "plan_hash": plan}
    following.print_evidence(*following.run_to_end(profile, RESTORE, **parameters), json)


def _parameters(
    name: str, store: str | None, copy: str | None = None, to: str | None = None
) -> dict[str, str]:
    given = {"server": names.check_system_name(name, kind="Redis")}
    if store is not None:
        given["store"] = names.check_system_name(store, kind="store")
    if copy is not None:
        given["copy"] = copy if copy == "latest" else names.check_copy_name(copy)
    if to is not None:
        given["target_server"] = names.check_system_name(to, kind="Redis")
    return given


def _try(address: AnyRedis) -> dict[str, str]:
    """Enter a Redis before its name is saved, and say what it is."""
    if isinstance(address, ElastiCacheAddress):
        from flowforge.engines.redis import elasticache

        status, node_type = elasticache.check(address)
        return {"status": status, "nodes": node_type}
    from flowforge.engines.redis import connection, survey

    with connection.connect(address) as session:
        facts, _ = survey.survey(session, address.name)
    keys = sum(counts.key_count for counts in facts.keyspace.values())
    size = terminal.show_bytes(facts.used_memory_bytes)
    return {"version": facts.version, "holds": f"{keys:,} keys, {size} of memory"}


def _print_plan(facts: Mapping[str, object]) -> None:
    from flowforge.rules.redis_restores import RedisRestorePlan

    plan = RedisRestorePlan.model_validate(facts.get("plan"), extra="ignore")
    target, held = plan.target, plan.contents
    terminal.print_facts(
        {
            "copy": f"{plan.copy_name} of {plan.source_server} ({plan.copy_level.label})",
            "taken": f"{plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{terminal.show_age(plan.snapshot_at)} ago",
            "goes to": f"{target.server} (Redis {target.version})",
            "brings": f"{held.alive:,} keys in {len(held.alive_in)} databases",
            "replaces": f"{target.key_count:,} keys, of which a copy is kept"
            if plan.replaces
            else None,
            "plan hash": plan.digest,
        }
    )
    for warning in plan.warnings:
        terminal.out.print(f"warning: {terminal.show(warning)}", markup=False)
    if plan.obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(plan.obstacles))
    to = "" if target.server == plan.source_server else f" --to {target.server}"
    store = "" if plan.store == "backups" else f" --store {plan.store}"
    terminal.out.print(
        f"\nTo do it:\n  flowforge redis apply {plan.source_server} --copy {plan.copy_name}{to}"
        f"{store} --plan {plan.digest}",
        markup=False,
    )
