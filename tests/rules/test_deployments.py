from __future__ import annotations

import copy
from typing import Any

import pytest

from flowforge.rules.deployment_file import Problem, read_content
from flowforge.rules.deployments import (
    Deployment,
    Schedule,
    compare,
    list_foreign_schedules,
)

GOOD: dict[str, Any] = {
    "prefect-version": "3.8.8",
    "pull": [{"a.step": {"directory": "{{ $HOME_FOLDER }}"}}],
    "definitions": {"anything": {"$X": "{{ $NOT_FILLED }}"}},
    "deployments": [
        {
            "name": "nightly",
            "entrypoint": "flows/backup.py:backup",
            "tags": ["one"],
            "work_pool": {"name": "pool", "job_variables": {"env": {"A": "b"}}},
            "parameters": {"server": "shop"},
            "concurrency_limit": {"limit": 1, "grace_period_seconds": 600},
            "schedules": [
                {"slug": "at-three", "cron": "0 3 * * *", "timezone": "UTC"},
                {
                    "slug": "tick",
                    "interval": 600,
                    "anchor_date": "2026-01-01T00:00:00Z",
                    "timezone": "UTC",
                },
            ],
        }
    ],
}
VARIABLES = {"HOME_FOLDER": "/opt/flow forge"}


def changed(**entry: Any) -> dict[str, Any]:
    """The good file with the keys of its one deployment changed; `None` removes a key."""
    content = copy.deepcopy(GOOD)
    deployment = content["deployments"][0]
    for key, value in entry.items():
        if value is None:
            deployment.pop(key, None)
        else:
            deployment[key] = value
    return content


def scheduled(**keys: Any) -> dict[str, Any]:
    schedule: dict[str, Any] = {"slug": "at-three", "cron": "0 3 * * *", "timezone": "UTC"} | keys
    return changed(schedules=[{key: value for key, value in schedule.items() if value is not None}])


def problems_of(content: object) -> list[Problem]:
    return read_content(content, VARIABLES)[1]


def test_a_good_file_is_read_with_its_variables_filled_in() -> None:
    file, problems = read_content(GOOD, VARIABLES)

    assert problems == []
    assert file is not None
    assert file.pull == [{"a.step": {"directory": "/opt/flow forge"}}]
    assert file.deployments[0].concurrency_limit is not None
    assert file.deployments[0].concurrency_limit.collision_strategy == "ENQUEUE"


@pytest.mark.parametrize(
    ("content", "entry", "field", "said"),
    [
        (changed(concurency_limit=1), "nightly", "concurency_limit", "concurrency_limit"),
        (changed(triggers=[]), "nightly", "triggers", "flowforge/automations.py"),
        (
            changed(work_pool={"name": "x", "job_vars": {}}),
            "nightly",
            "work_pool.job_vars",
            "job_variables",
        ),
        (changed(work_pool=None), "nightly", "work_pool", "is missing"),
        (changed(name=None), "#1", "name", "is missing"),
        (changed(name="a/b"), "a/b", "name", "without /"),
        (changed(entrypoint="flows.backup.backup"), "nightly", "entrypoint", "file.py:function"),
        (changed(concurrency_limit=0), "nightly", "concurrency_limit.limit", ""),
        (
            changed(concurrency_limit={"limit": 1, "grace_period_seconds": 5}),
            "nightly",
            "concurrency_limit.grace_period_seconds",
            "60",
        ),
        (changed(tags=["{{ $NOPE }}"]), "nightly", "tags.#1", "NOPE, which is not set"),
        (
            changed(parameters={"url": "{{ prefect.blocks.secret.x }}"}),
            "nightly",
            "parameters.url",
            "plain text",
        ),
        (scheduled(slug=None), "nightly", "schedules.#1.slug", "is missing"),
        (scheduled(slug="At Three"), "nightly", "schedules.At Three.slug", "lowercase"),
        (scheduled(timezone=None), "nightly", "schedules.at-three.timezone", "timezone: UTC"),
        (scheduled(active=True), "nightly", "schedules.at-three.active", "pause survives"),
        (scheduled(corn="x"), "nightly", "schedules.at-three.corn", "cron"),
        (scheduled(cron=None), "nightly", "schedules.at-three", "exactly one"),
        (scheduled(rrule="FREQ=DAILY"), "nightly", "schedules.at-three", "exactly one"),
        (scheduled(cron=None, interval=60), "nightly", "schedules.at-three", "anchor_date"),
        ({**GOOD, "deployment": []}, "", "deployment", "Did you mean `deployments`?"),
        ({"deployments": []}, "", "deployments", ""),
        ({}, "", "deployments", "is missing"),
        ([], "", "the file", "mapping"),
    ],
)
def test_a_problem_names_entry_and_field_and_says_what_to_do(
    content: object, entry: str, field: str, said: str
) -> None:
    problems = problems_of(content)

    assert [(one.entry, one.field) for one in problems] == [(entry, field)], problems
    assert said in str(problems[0])
    assert problems[0].hint


def test_all_problems_are_found_in_one_reading() -> None:
    content = changed(tags=["{{ $NOPE }}"], concurency_limit=1, work_pool=None)
    content["deployments"].append({"name": "second", "entrypoint": "a.py:b"})

    found = {(one.entry, one.field) for one in problems_of(content)}

    assert found == {
        ("nightly", "tags.#1"),
        ("nightly", "concurency_limit"),
        ("nightly", "work_pool"),
        ("second", "work_pool"),
    }


def test_what_lies_beyond_a_broken_place_is_read_too() -> None:
    content = scheduled(slug=None, timezone=None, active=True)
    content["deployments"] += ["text", {"name": "last"}]
    content["oops"] = 1

    file, problems = read_content(content, VARIABLES)

    assert [(one.entry, one.field) for one in problems] == [
        ("nightly", "schedules.#1.slug"),
        ("nightly", "schedules.#1.timezone"),
        ("nightly", "schedules.#1.active"),
        ("#2", "the entry"),
        ("last", "entrypoint"),
        ("last", "work_pool"),
        ("", "oops"),
    ]
    assert file is not None
    assert file.deployments[0].schedules[0].cron == "0 3 * * *"
    assert len(file.deployments) == 3


def test_the_same_name_or_slug_twice_is_a_problem() -> None:
    content = copy.deepcopy(GOOD)
    content["deployments"].append(copy.deepcopy(content["deployments"][0]))
    content["deployments"][1]["schedules"] += content["deployments"][1]["schedules"][:1]

    assert {one.field for one in problems_of(content)} == {"name", "schedules.at-three"}


def schedule(slug: str | None = "s", cron: str = "0 3 * * *", **more: Any) -> Schedule:
    return Schedule(slug=slug, when={"cron": cron, "timezone": "UTC"}, **more)


def deployment(name: str = "d", *schedules: Schedule, **more: Any) -> Deployment:
    fields = {"tags": ["flowforge", "x"], "description": "text"} | more.pop("fields", {})
    return Deployment(flow_name="f", name=name, fields=fields, schedules=schedules, **more)


def test_equal_sides_give_no_change() -> None:
    wanted = deployment("d", schedule())
    found = deployment("d", schedule(id="1"), id="2", fields={"tags": ["x", "flowforge"]})

    assert compare([wanted], [found]) == ()


def test_a_pause_never_shows_as_a_difference() -> None:
    assert compare([deployment("d", paused=False)], [deployment("d", paused=True, id="1")]) == ()


def test_what_is_missing_is_created_and_what_left_is_deleted() -> None:
    changes = compare([deployment("new")], [deployment("old", id="1")])

    assert [(one.action, one.full_name) for one in changes] == [
        ("create", "f/new"),
        ("delete", "f/old"),
    ]


def test_a_deployment_without_our_tag_is_never_deleted_but_a_wanted_name_is_taken_over() -> None:
    foreign = deployment("theirs", id="1", fields={"tags": ["x"]})
    same_name = deployment("d", id="2", fields={"tags": []})

    changes = compare([deployment("d")], [foreign, same_name])

    assert [(one.action, one.full_name, one.fields) for one in changes] == [
        ("update", "f/d", ("tags",))
    ]


def test_schedules_are_matched_by_slug() -> None:
    wanted = deployment("d", schedule("kept"), schedule("moved", "0 4 * * *"), schedule("new"))
    found = deployment(
        "d", schedule("kept", id="1"), schedule("moved", id="2"), schedule("gone", id="3"), id="9"
    )

    (change,) = compare([wanted], [found])

    assert change.fields == ()
    assert [(one.action, one.slug) for one in change.schedules] == [
        ("update", "moved"),
        ("create", "new"),
        ("delete", "gone"),
    ]


def test_a_schedule_without_a_slug_stays_and_is_told() -> None:
    wanted = deployment("d", schedule("kept"))
    found = deployment("d", schedule("kept", id="1"), schedule(None, id="2"), id="9")

    assert compare([wanted], [found]) == ()
    assert [name for name, _ in list_foreign_schedules([wanted], [found])] == ["f/d"]
