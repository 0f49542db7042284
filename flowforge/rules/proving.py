"""How far a copy is proven, how much time that may take, and what its owner asks of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from pydantic import Field

from flowforge.rules.backups import Level, Manifest, Proof
from flowforge.rules.proofs import Answer, Verdict
from flowforge.rules.values import Value

_COMPARISON = re.compile(r"^(>=|<=|<>|!=|=|<|>)\s*(.+)$", re.DOTALL)
_LONGEST_ANSWER = 200


class Question(Value):
    """A query the owner of the data puts to a restored copy. It answers with one single value."""

    name: str = Field(min_length=1, max_length=100, description="what is asked, for the report")
    sql: str = Field(min_length=1, description="a query that only reads, of one row and column")
    expect: str | None = Field(
        default=None,
        description="the value it must have, or a comparison like `>= 1000`; without it the "
        "answer must be true",
    )

    @property
    def expected(self) -> str:
        """What the answer has to be, as a person reads it."""
        return "true" if self.expect is None else self.expect


class ProofPolicy(Value):
    """How far a new copy is proven before the backup says it is done."""

    restore: bool = Field(
        default=True, description="restore the copy on a scratch server and compare it (L3)"
    )
    budget_seconds: float = Field(
        default=600,
        ge=0,
        description="seconds for hashing restored tables; the rest is counted. A quarter of it is "
        "for checking indexes",
    )
    largest_bytes: int = Field(
        default=20 * 1024**3,
        gt=0,
        description="leave larger databases to the weekly drill, which has more time",
    )
    questions: tuple[Question, ...] = Field(
        default=(), description="what the restored copy is asked once it was compared (L4)"
    )
    start_prefect: bool = Field(
        default=False,
        description="start Prefect's server on a copy of its own database, and let it list its "
        "runs (L4)",
    )


STANDARD_PROOF = ProofPolicy()
DRILL_PROOF = ProofPolicy(budget_seconds=4 * 3600, largest_bytes=1024**5, start_prefect=True)


def needs_second_opinion(manifest: Manifest, proof: Proof) -> bool:
    """Whether a copy that failed may have been read wrongly by us, so that `pg_dump` should try.

    A copy whose stored bytes are not those that were sent is the store's fault, and one whose
    questions were answered otherwise is right: neither gets better by another way of reading.
    """
    wrong_content = proof.level in (Level.RESTORED, Level.COMPARED)
    return manifest.engine == "members" and proof.verdict == "failed" and wrong_content


def is_expected(question: Question, value: object) -> bool:
    """Tell whether an answer is what its question expects.

    Numbers are compared as numbers, everything else as text; moments in ISO form keep their order.
    """
    if question.expect is None:
        return value is True
    found = _COMPARISON.match(question.expect)
    sign, wanted = (found[1], found[2].strip()) if found else ("=", question.expect.strip())
    text = spell(value)
    left, right = _number(text), _number(wanted)
    if left is not None and right is not None:
        return _holds(sign, (left > right) - (left < right))
    return _holds(sign, (text > wanted) - (text < wanted))


def spell(value: object) -> str:
    """A single value as it is compared and shown."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def shorten(text: str) -> str:
    """A value as it is kept in a proof."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_ANSWER else line[: _LONGEST_ANSWER - 1] + "…"


def judge_answers(answers: Sequence[Answer]) -> tuple[Verdict, str | None]:
    """The verdict on all answers, and the first reason why it is not `proven`."""
    for verdict in ("failed", "inconclusive"):
        for answer in answers:
            if answer.verdict == verdict:
                return verdict, answer.line()
    return "proven", None


def _holds(sign: str, order: int) -> bool:
    """Whether a comparison holds for values that are in an order: -1, 0 or 1."""
    return {
        "=": order == 0,
        "<>": order != 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[sign]


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return None if number.is_nan() else number
