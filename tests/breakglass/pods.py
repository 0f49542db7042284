"""What a cluster makes of a Job or CronJob: its command in a container with its environment.

The image is this checkout with its Python, read-only; the command and its arguments are those of
the file, to the letter.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.breakglass.elsewhere import run_there

EMERGENCY = Path(__file__).parents[2] / "emergency"
_CHECKOUT = Path(__file__).parents[2]
Secrets = Mapping[str, Mapping[str, str]]
"""Name of a secret to its keys and their values."""


def read_document(name: str) -> dict[str, Any]:
    """The one object in a file of `emergency/`."""
    (found,) = yaml.safe_load_all((EMERGENCY / name).read_text())
    assert isinstance(found, dict)
    return found


def pod_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The pod a Job or CronJob starts."""
    spec = document["spec"]
    job = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
    pod: dict[str, Any] = job["template"]["spec"]
    return pod


@dataclass(frozen=True)
class Cluster:
    """Runs pods, each in a root file system of its own."""

    folder: Path
    """An empty folder to build them in."""

    secrets: Secrets
    given: Mapping[str, Path]
    """Places there and what of this machine appears in them, beside what the pod mounts."""

    user: int
    """Who runs them here, in place of the user they name: the one who may enter the server."""

    job: str = "8d0c4f6e-0000-4000-8000-000000000001"
    """What the cluster gives a Job when it is made; every pod that tries it again has it, too."""

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the pod of a file of `emergency/` once."""
        pod = pod_of(read_document(name))
        (container,) = pod["containers"]
        root = self.folder / f"root-{len(list(self.folder.glob('root-*')))}"
        root.mkdir()
        return run_there(
            root,
            f"exec {shlex.join([*container['command'], *container['args']])}",
            given={**self.given, **self._mounts(pod, container, root.with_suffix(".volumes"))},
            environment=self._environment(container),
            programs=[Path(sys.prefix) / "bin"],
            read_only=_image(),
            user=self.user,
        )

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self._secret(source["secretRef"]) or {}
        for variable in container.get("env", ()):
            if "value" in variable:
                found[variable["name"]] = variable["value"]
                continue
            if "fieldRef" in variable["valueFrom"]:
                label = "metadata.labels['batch.kubernetes.io/controller-uid']"
                assert variable["valueFrom"]["fieldRef"] == {"fieldPath": label}
                found[variable["name"]] = self.job
                continue
            wanted = variable["valueFrom"]["secretKeyRef"]
            kept = self._secret(wanted)
            if wanted["key"] in kept or not wanted.get("optional"):
                found[variable["name"]] = kept[wanted["key"]]
        return found

    def _secret(self, wanted: Mapping[str, Any]) -> Mapping[str, str]:
        return (
            self.secrets.get(wanted["name"], {})
            if wanted.get("optional")
            else (self.secrets[wanted["name"]])
        )

    def _mounts(
        self, pod: Mapping[str, Any], container: Mapping[str, Any], folder: Path
    ) -> dict[str, Path]:
        """The folders of secrets; a temporary one every root file system has anyway."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        found = {}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                assert mount["mountPath"] == "/tmp"
                continue
            found[mount["mountPath"]] = self._project(volume["secret"], folder / mount["name"])
        return found

    def _project(self, wanted: Mapping[str, Any], folder: Path) -> Path:
        """A folder with the keys of a secret as files; an optional one may lack them."""
        folder.mkdir(parents=True)
        kept = self.secrets[wanted["secretName"]]
        for item in wanted["items"]:
            assert item["key"] in kept or wanted.get("optional")
            if item["key"] in kept:
                file = folder / item["path"]
                file.write_text(kept[item["key"]])
                file.chmod(0o444)  # the group that a cluster gives to its pods is not known here
        return folder


def _image() -> list[Path]:
    """The folders that a container needs of this machine to run the same Python."""
    wanted = [_CHECKOUT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    system = Path("/usr")
    found: list[Path] = []
    for folder in wanted:
        if not any(folder.is_relative_to(other) for other in (*found, system)):
            found.append(folder)
    return found
