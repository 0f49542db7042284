"""What a sandbox whose job names hosts is given, and who serves it in the brain."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowforge.engines.sandboxes.contacts import Contacts
from flowforge.engines.sandboxes.inside.links import PROXY_PORT
from flowforge.engines.sandboxes.inside.prepare import CERTIFICATES
from flowforge.engines.sandboxes.links import Answer
from flowforge.engines.sandboxes.proxy import Proxy, Route
from flowforge.rules.jobs.egress_secrets import HostSecret, check_secrets
from flowforge.rules.jobs.spec import SandboxChoice

_ADDRESS = f"http://127.0.0.1:{PROXY_PORT}"
_NOT_BY_PROXY = "localhost,127.0.0.1,::1"
_PROXY_VARIABLES = {
    "HTTPS_PROXY": _ADDRESS,
    "https_proxy": _ADDRESS,
    "NO_PROXY": _NOT_BY_PROXY,
    "no_proxy": _NOT_BY_PROXY,
    "NODE_USE_ENV_PROXY": "1",
}
"""By which the usual programs find the proxy."""

_TRUST_VARIABLES = dict.fromkeys(
    (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
    ),
    str(CERTIFICATES),
)
"""By which the usual programs find whom to trust."""


@dataclass(frozen=True)
class WayOut:
    """The way out of one sandbox."""

    answer: Answer | None = None
    """Serves the connections of its commands; `None` where they reach nobody."""

    contacts: Contacts = field(default_factory=Contacts)
    """The connections that were asked for."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Of every command."""

    certificate: str | None = None
    """Of the authority that stands in for hosts which are told secrets."""

    usual_certificates: str = ""
    """Whom to trust besides, where the sandbox itself knows nobody."""


NO_WAY_OUT = WayOut()


def make(choice: SandboxChoice, secrets: Sequence[HostSecret], route: Route) -> WayOut:
    """Make the way out for a job.

    Args:
        choice: What it asks for.
        secrets: What is said to some of its hosts.
        route: How names of hosts become addresses.

    Raises:
        Refused: A secret is for a host that the job does not name.
    """
    check_secrets(secrets, choice.egress)
    if not choice.egress:
        return NO_WAY_OUT
    contacts = Contacts()
    proxy = Proxy(choice.egress, contacts.add, route, secrets=secrets)
    if proxy.authority is None:
        return WayOut(proxy.answer, contacts, _PROXY_VARIABLES)
    return WayOut(
        answer=proxy.answer,
        contacts=contacts,
        variables=_PROXY_VARIABLES | _TRUST_VARIABLES,
        certificate=proxy.authority.certificate,
        usual_certificates=_usual_certificates(),
    )


def _usual_certificates() -> str:
    file = ssl.get_default_verify_paths().cafile
    return Path(file).read_text() if file else ""
