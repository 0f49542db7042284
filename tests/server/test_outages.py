from __future__ import annotations

import itertools
import logging

import pytest
import sqlalchemy as sa

from flowforge.server.outages import Brief, is_outage


def raised(*errors: BaseException) -> BaseException:
    """The last of a chain of errors, each raised from the one before."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (FileNotFoundError(2, "No such file or directory"), True),
        (FileNotFoundError(2, "No such file", "/etc/flowforge.yaml"), False),
        (ExceptionGroup("two", [ValueError("one"), ConnectionResetError()]), True),
        (raised(ConnectionResetError(), ValueError("while saving")), True),
        (sa.exc.OperationalError("SELECT 1", None, Exception("gone")), True),
        (sa.exc.IntegrityError("INSERT", None, Exception("twice")), False),
        (ValueError("a defect"), False),
        (KeyError("a defect"), False),
    ],
)
def test_an_outage_is_told_from_a_defect(error: BaseException, is_one: bool) -> None:
    assert is_outage(error) is is_one


def test_a_defect_keeps_its_traceback_and_an_outage_is_one_line_a_minute() -> None:
    brief = Brief()

    def record(error: Exception) -> logging.LogRecord:
        info = (type(error), error, None)
        return logging.LogRecord("prefect", logging.ERROR, "x.py", 1, "it %s\n!", ("broke",), info)

    defect = record(ValueError("a defect"))
    assert brief.filter(defect)
    assert defect.exc_info is not None
    outage = record(ConnectionRefusedError("nobody there"))
    assert brief.filter(outage)
    assert outage.getMessage() == "it broke (the database is away: nobody there)"
    assert outage.exc_info is None
    assert not brief.filter(record(ConnectionRefusedError("nobody there")))
