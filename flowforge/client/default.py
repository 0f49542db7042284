"""The client of the environment that is meant when nobody names one."""

from __future__ import annotations

import atexit
import functools

from flowforge.client.address import Environment, find_environment
from flowforge.client.blocking import FlowForge


def default() -> FlowForge:
    """The client that the functions of modules use; kept until the program ends."""
    return _kept(find_environment())


@functools.cache
def _kept(environment: Environment) -> FlowForge:
    flowforge = FlowForge(environment=environment)
    atexit.register(flowforge.close)
    return flowforge
