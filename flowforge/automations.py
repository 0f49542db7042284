"""Who is told of what, as data, and the calls that make the server's automations match.

Automations are ours by the prefix of their name. One an operator switched off stays off. An
automation exists only while a pager is saved: one that sends nothing would look, in the UI, as if
somebody were told.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectHTTPStatusError

from flowforge.rules import alerts

PREFIX = "flowforge: "
TAG = "flowforge"
PAGER_TYPE = "flowforge-pager"
_PAGE = 200

_STATE = "{{ event.resource['prefect.state-name'] }}"
_FAILED_SUBJECT = f"{{{{ flow.name }}}}: run {{{{ flow_run.name }}}} {_STATE}"
_FAILED_BODY = """\
{{ flow.name }}, run {{ flow_run.name }}, ended {{ state }} \
at {{ event.occurred.strftime('%Y-%m-%d %H:%M:%S') }} UTC.

{{ event.resource['prefect.state-message'] or 'No reason was given; the log of the run has it.' }}

Parameters: {{ flow_run.parameters }}
{% if flow_run|ui_url %}Log and artifacts: {{ flow_run|ui_url }}
{% endif %}{% if deployment %}To run it again once the cause is gone: \
prefect deployment run '{{ flow.name }}/{{ deployment.name }}'{% endif %}
""".replace("{{ state }}", _STATE)
_STALE_SUBJECT = (
    "No recent copy of {{ event.payload.server }}/{{ event.payload.database }}: "
    "the newest is {{ (event.payload.age_seconds / 3600)|round(1) }} h old"
)
_STALE_BODY = """\
The newest copy of database {{ event.payload.database }} on server {{ event.payload.server }} is \
{{ (event.payload.age_seconds / 3600)|round(1) }} hours old. Losing that server now would lose \
everything written since.

{{ event.payload.hint }}

Look first whether the last backups failed, wait for a worker, or were never started: \
`flowforge status`, then `flowforge backup list {{ event.payload.server }}`.
"""
_PLACE = "{{ event.payload.server }}/{{ event.payload.database }}"
_ALERTS = (
    (
        "copy too old",
        "Tells every pager when a database's newest copy is older than it may be.",
        alerts.STALE,
        _STALE_SUBJECT,
        _STALE_BODY,
    ),
    (
        "copies unproven",
        "Tells every pager when no copy of a database was brought back to life for too long.",
        alerts.UNVERIFIED,
        f"No copy of {_PLACE} was proven for "
        "{{ (event.payload.age_seconds / 86400)|round|int }} days",
        f"""\
Copies of {_PLACE} are made, and no run has failed; but since \
{{{{ (event.payload.age_seconds / 86400)|round|int }}}} days none was restored and compared. \
A copy that was never restored is a hope.

{{{{ event.payload.hint }}}}
""",
    ),
    (
        "copy shrunk",
        "Tells every pager when a copy holds far less than the one before it.",
        alerts.SHRUNK,
        f"The newest copy of {_PLACE} holds far less than the one before",
        f"""\
In copy {{{{ event.payload.newest_copy }}}} of {_PLACE}, {{{{ event.payload.fall }}}}. The copy is \
what the database held. Look whether the database was emptied, or made anew, by mistake.

{{{{ event.payload.hint }}}}
""",
    ),
    (
        "backups skipped",
        "Tells every pager when backups of a database are skipped twice in a row.",
        alerts.SKIPPED,
        f"Backups of {_PLACE} are skipped: {{{{ event.payload.in_a_row }}}} in a row",
        f"""\
The last {{{{ event.payload.in_a_row }}}} backups of {_PLACE} ended without a copy, because \
another one was still running each time.

{{{{ event.payload.hint }}}}
""",
    ),
)


@dataclass(frozen=True)
class Change:
    """One thing that differs between the automations here and on the server."""

    action: Literal["create", "update", "delete"]
    name: str
    why: str


def list_automations(pager_ids: list[UUID]) -> list[AutomationCore]:
    """The automations an installation with these pagers has; none without a pager."""
    if not pager_ids:
        return []
    return [
        AutomationCore(
            name=f"{PREFIX}operation failed",
            description="Tells every pager when a run of FlowForge fails, crashes or times out.",
            tags=[TAG],
            trigger=EventTrigger(
                # By the type of the state, so a failure under a name of its own is told, too.
                expect={"prefect.flow-run.*"},
                match={
                    "prefect.resource.id": "prefect.flow-run.*",
                    "prefect.state-type": ["FAILED", "CRASHED"],
                },
                match_related={
                    "prefect.resource.id": f"prefect.tag.{TAG}",
                    "prefect.resource.role": "tag",
                },
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=_notifications(pager_ids, _FAILED_SUBJECT, _FAILED_BODY),
        ),
        *(_tell_of(pager_ids, *alert) for alert in _ALERTS),
    ]


def _tell_of(
    pager_ids: list[UUID], name: str, description: str, event: str, subject: str, body: str
) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}{name}",
        description=description,
        tags=[TAG],
        trigger=EventTrigger(
            expect={event},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=_notifications(pager_ids, subject, body),
    )


def _notifications(pager_ids: list[UUID], subject: str, body: str) -> list[Any]:
    return [
        SendNotification(block_document_id=id_, subject=subject, body=body) for id_ in pager_ids
    ]


def read_pagers(client: SyncPrefectClient) -> dict[str, UUID]:
    """The saved pagers: name and document."""
    try:
        documents = client.read_block_documents_by_type(PAGER_TYPE, include_secrets=False)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return {}  # the type was never registered here
    return {str(document.name): document.id for document in documents}


def sync_automations(
    client: SyncPrefectClient, *, without: str | None = None, check: bool = False
) -> list[Change]:
    """Make the server's automations of ours match, and return what differed.

    Args:
        client: An open client.
        without: A pager about to be removed, so that no automation refers to it any more.
        check: Only look.
    """
    pagers = read_pagers(client)
    ids = [pagers[name] for name in sorted(pagers) if name != without]
    wanted = {automation.name: automation for automation in list_automations(ids)}
    found = _read_ours(client)
    changes: list[Change] = []
    for name, automation in wanted.items():
        existing = found.pop(name, [])
        changes += _match(client, automation, existing, check=check)
    for name, leftovers in found.items():
        why = "no longer wanted" if pagers else "no pager is saved"
        changes += [_delete(client, name, item, why, check=check) for item in leftovers]
    return changes


def _match(
    client: SyncPrefectClient,
    wanted: AutomationCore,
    existing: list[Automation],
    *,
    check: bool,
) -> list[Change]:
    if not existing:
        if not check:
            client.create_automation(wanted)
        return [Change("create", wanted.name, "is not there")]
    # Of several, one that is switched off says more about what an operator wants.
    kept, *extras = sorted(existing, key=lambda one: (one.enabled, str(one.id)))
    changes = [
        _delete(client, wanted.name, extra, "is there twice", check=check) for extra in extras
    ]
    differing = _differing_fields(wanted, kept)
    if differing:
        if not check:
            client.update_automation(kept.id, wanted.model_copy(update={"enabled": kept.enabled}))
        changes.append(Change("update", wanted.name, ", ".join(differing)))
    return changes


def _delete(
    client: SyncPrefectClient, name: str, automation: Automation, why: str, *, check: bool
) -> Change:
    if not check:
        client.delete_automation(automation.id)
    return Change("delete", name, why)


def _read_ours(client: SyncPrefectClient) -> dict[str, list[Automation]]:
    found: dict[str, list[Automation]] = defaultdict(list)
    offset, more = 0, True
    while more:
        page = client.read_automations(limit=_PAGE, offset=offset)
        for automation in page:
            if automation.name.startswith(PREFIX):
                found[automation.name].append(automation)
        offset, more = offset + len(page), len(page) == _PAGE
    return found


def _differing_fields(wanted: AutomationCore, found: AutomationCore) -> list[str]:
    ours, theirs = _comparable(wanted), _comparable(found)
    return [field for field in ours if ours[field] != theirs.get(field)]


def _comparable(automation: AutomationCore) -> dict[str, Any]:
    fields = automation.model_dump(
        mode="json", include={"description", "tags", "trigger", "actions"}
    )
    trigger = fields["trigger"]
    trigger.pop("id", None)
    for unordered in ("expect", "after", "for_each"):
        trigger[unordered] = sorted(trigger.get(unordered) or [])
    return fields
