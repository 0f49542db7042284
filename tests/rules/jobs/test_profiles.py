from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.profiles import DEFAULT, Known, Profile
from flowforge.rules.jobs.spec import MOST_CPUS, MOST_MB, SandboxChoice

SMALL = Profile(
    name="small",
    kind="docker",
    image="python:3.11-slim",
    images=("registry.example.com/tools/*",),
    cpus=2,
    memory_mb=2048,
    disk_mb=4096,
    egress=("lib.example", "*.example.org", "api.example.com:8443"),
)


def wrong(**asked: Any) -> dict[str, str]:
    choice = SandboxChoice(**{"profile": "small", **asked})
    known: Known = {"default": DEFAULT, "small": SMALL, "broken": "cpus: too many"}
    return {one.field: one.message for one in profiles.find_problems(choice, known)}


def test_what_a_profile_gives_may_be_asked_for_to_the_last_bit() -> None:
    hosts = ("lib.example", "lib.example:443", "a.example.org", "*.b.example.org", "*.example.org")
    assert not wrong(cpus=2, memory_mb=2048, disk_mb=4096, egress=hosts)
    assert not wrong(egress=("api.example.com:8443",), image="registry.example.com/tools/node:22")
    assert not wrong(image="python:3.11-slim")


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ({"profile": "large"}, "profile", "no sandbox profile 'large'; there are: broken, default"),
        ({"profile": "broken"}, "profile", "not usable: cpus: too many"),
        ({"cpus": 2.5}, "cpus", "2.5 is more than the 2 of the profile small"),
        ({"memory_mb": 2049}, "memory_mb", "2049 is more than the 2048"),
        ({"disk_mb": MOST_MB}, "disk_mb", "1048576 is more than the 4096"),
        (
            {"egress": ("lib.example", "evil.example.com")},
            "egress.1",
            "evil.example.com is no host",
        ),
        ({"egress": ("lib.example:8443",)}, "egress.0", "lib.example, *.example.org, api."),
        ({"egress": ("example.org",)}, "egress.0", "example.org is no host"),
        ({"egress": ("*.lib.example",)}, "egress.0", "*.lib.example is no host"),
        ({"image": "evil:1"}, "image", "gives registry.example.com/tools/*"),
    ],
)
def test_what_a_profile_does_not_give_is_named_by_its_field(
    asked: dict[str, Any], field: str, said: str
) -> None:
    found = wrong(**asked)
    assert list(found) == [f"sandbox.{field}"]
    assert said in found[f"sandbox.{field}"]


def test_everything_that_is_too_much_is_named_at_once() -> None:
    found = wrong(cpus=9, memory_mb=9999, disk_mb=9999, egress=("a.com",), image="x")
    assert len(found) == 5


def test_without_a_document_the_default_gives_all_that_a_spec_can_say() -> None:
    known = profiles.read({})
    choice = SandboxChoice(
        cpus=MOST_CPUS, memory_mb=MOST_MB, disk_mb=MOST_MB, egress=("any.example.com",), image="x"
    )
    assert known == {"default": DEFAULT}
    assert profiles.find_problems(choice, known) == []


def test_a_saved_profile_allows_no_host_and_no_image_unless_it_names_them() -> None:
    known = profiles.read({"new": {"kind": "docker"}})
    choice = SandboxChoice(profile="new", egress=("lib.example",), image="x")
    fields = [one.field for one in profiles.find_problems(choice, known)]
    assert fields == ["sandbox.image", "sandbox.egress.0"]


def test_a_saved_default_takes_the_place_of_the_one_there_is_without() -> None:
    known = profiles.read({"default": {"kind": "local", "cpus": 1}})
    assert [one.field for one in profiles.find_problems(SandboxChoice(cpus=2), known)] == [
        "sandbox.cpus"
    ]


def test_a_profile_that_cannot_be_read_says_why_and_keeps_no_other_from_being_read() -> None:
    known = profiles.read({"odd": {"cpus": "many", "colour": "red"}, "fine": {"cpus": 2}})
    assert isinstance(known["fine"], Profile)
    assert "cpus: Input should be a valid number" in str(known["odd"])
    assert "colour: Extra inputs are not permitted" in str(known["odd"])
    assert "many" not in str(known["odd"])


def test_fields_that_were_left_empty_in_a_form_are_not_set() -> None:
    left_empty = {"kind": "kubernetes", "image": "", "address": "", "cpus": None}
    found = profiles.read({"new": left_empty})["new"]
    assert isinstance(found, Profile)
    assert (found.image, found.address, found.cpus) == (None, None, 4.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"namespace": "jobs"}, "namespace is for kubernetes sandboxes"),
        ({"kind": "kubernetes", "address": "tcp://h:1"}, "address is for docker sandboxes"),
        ({"image": "x"}, "local sandboxes have no images"),
        ({"kind": "docker", "address": "h:1"}, "unix:///var/run/docker.sock"),
        ({"kind": "docker", "address": "tcp://me:hunter2@h:1"}, "tcp://HOST:PORT"),
        ({"egress": ["169.254.169.254"]}, "egress.0"),
        ({"cpus": 65}, "cpus"),
        ({"kind": "vm"}, "kind"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_no_profile(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Profile(name="new", **fields)
    told = profiles.say(caught.value)
    assert said in told
    assert "hunter2" not in told


def test_a_profile_is_told_in_a_few_words() -> None:
    assert SMALL.where == "docker"
    assert SMALL.most == "2 CPUs, 2048 MB of memory, 4096 MB of disk"
    assert DEFAULT.hosts == "any public host"
    pods = Profile(name="pods", kind="kubernetes", namespace="boxes")
    assert (pods.where, pods.hosts) == ("kubernetes in boxes", "none")
