"""Is the restored database the one that was dumped? Every difference is named.

What was dumped is in the manifest, taken in the dump's own snapshot. What was restored is seen by
dumping it again. Data must be equal always; definitions are texts written by the server, so between
major versions only those are compared whose text does not depend on the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowforge.rules.backups import (
    LargeObjectFacts,
    Manifest,
    SequenceFacts,
    TableFacts,
    Verdict,
)
from flowforge.rules.values import Value

MOST_DIFFERENCES = 50

# Their definitions are deparsed differently by different major versions.
_DEPENDS_ON_VERSION = (
    "view ",
    "materialized view ",
    "privileges on ",
    "rule ",
    "function ",
    "policy ",
    "comment on ",
    "schema ",
)


class Restored(Value):
    """What was seen of a restored database."""

    major: int
    tables: tuple[TableFacts, ...]
    counts: dict[str, int]
    """Rows of tables that were only counted, because the time for hashing was spent."""

    sequences: tuple[SequenceFacts, ...]
    large_objects: LargeObjectFacts | None
    """`None` when the time was spent before they were read."""

    definitions: dict[str, str]
    extensions: dict[str, str]


class Comparison(Value):
    """What was compared and what differs."""

    differences: tuple[str, ...]
    tables_digested: int
    tables_counted: int
    rows_compared: int
    definitions_compared: int
    differing_tables: tuple[str, ...] = ()
    """Tables whose rows are to be looked at one by one."""

    remarks: tuple[str, ...] = ()


def compare(manifest: Manifest, restored: Restored) -> Comparison:
    """Compare a restored database with the facts of its dump."""
    seen = {table.name: table for table in restored.tables}
    expected = {table.name: table for table in manifest.tables}
    digested = [name for name in expected if name in seen and _alike(expected[name], seen[name])]
    counts = {**restored.counts, **{name: table.rows for name, table in seen.items()}}
    counted = [name for name in expected if name not in digested and name in counts]
    table_differences = {name: _table_difference(expected[name], seen[name]) for name in digested}
    differing = {name: text for name, text in table_differences.items() if text}
    defined, compared = _definition_differences(manifest, restored)
    differences = [
        *differing.values(),
        *_count_differences(expected, counted, counts),
        *(f"table {name}: missing from the copy" for name in expected if name not in counts),
        *(
            f"table {name}: in the copy, not in the original"
            for name in seen.keys() - expected.keys()
        ),
        *_sequence_differences(manifest.sequences, restored),
        *_object_differences(manifest.large_objects, restored.large_objects),
        *defined,
    ]
    return Comparison(
        differences=tuple(differences[:MOST_DIFFERENCES]),
        differing_tables=tuple(
            name for name in differing if seen[name].columns == expected[name].columns
        ),
        tables_digested=len(digested),
        tables_counted=len(digested) + len(counted),
        rows_compared=sum(expected[name].rows for name in digested),
        definitions_compared=compared,
        remarks=_remarks(manifest, restored, uncounted=len(counted)),
    )


def judge(found: Comparison) -> tuple[Verdict, str | None]:
    """The verdict on a comparison, and why it is not `proven`.

    One difference is a failure. Counts alone prove nothing: without a single table compared row for
    row the answer is that there is none.
    """
    if found.differences:
        return "failed", found.differences[0]
    if found.tables_counted and not found.tables_digested:
        return "inconclusive", "the time budget was spent before one table had been compared"
    return "proven", None


def _alike(one: TableFacts, other: TableFacts) -> bool:
    """Whether two digests were made in the same way; those of older copies are longer."""
    return len(one.digest) == len(other.digest)


def _table_difference(expected: TableFacts, seen: TableFacts) -> str | None:
    if seen.columns != expected.columns:
        return f"table {expected.name}: columns ({seen.columns}) instead of ({expected.columns})"
    if seen.rows != expected.rows:
        return f"table {expected.name}: {seen.rows:,} rows instead of {expected.rows:,}"
    if seen.digest != expected.digest:
        return f"table {expected.name}: as many rows, other content"
    return None


def _count_differences(
    expected: Mapping[str, TableFacts], counted: Iterable[str], counts: Mapping[str, int]
) -> list[str]:
    return [
        f"table {name}: {counts[name]:,} rows instead of {expected[name].rows:,}"
        for name in counted
        if counts[name] != expected[name].rows
    ]


def _sequence_differences(expected: tuple[SequenceFacts, ...], restored: Restored) -> list[str]:
    if restored.large_objects is None:  # the dump was abandoned before its sequences
        return []
    seen = {sequence.name: sequence for sequence in restored.sequences}
    differences = []
    for sequence in expected:
        found = seen.get(sequence.name)
        if found is None:
            differences.append(f"sequence {sequence.name}: missing from the copy")
        elif found != sequence:
            differences.append(
                f"sequence {sequence.name}: at {found.value} instead of {sequence.value}"
            )
    return differences


def _object_differences(expected: LargeObjectFacts, seen: LargeObjectFacts | None) -> list[str]:
    if seen is None or seen == expected:
        return []
    if seen.count != expected.count:
        return [f"large objects: {seen.count:,} instead of {expected.count:,}"]
    return ["large objects: as many, other content"]


def _definition_differences(manifest: Manifest, restored: Restored) -> tuple[list[str], int]:
    expected, seen = manifest.definitions, restored.definitions
    same_major = manifest.server.major == restored.major
    differences = [f"{what}: missing from the copy" for what in expected if what not in seen]
    differences += [
        f"{what}: in the copy, not in the original" for what in seen if what not in expected
    ]
    both = [what for what in expected if what in seen]
    comparable = [w for w in both if same_major or not w.startswith(_DEPENDS_ON_VERSION)]
    differences += [
        f"{what}: defined differently" for what in comparable if expected[what] != seen[what]
    ]
    return differences, len(comparable)


def _remarks(manifest: Manifest, restored: Restored, *, uncounted: int) -> tuple[str, ...]:
    remarks = []
    if manifest.server.major != restored.major:
        remarks.append(
            f"restored on PostgreSQL {restored.major}, taken from {manifest.server.major}: "
            "views, functions, rules, policies, privileges and comments were compared by name only"
        )
    if uncounted:
        remarks.append(f"{uncounted} tables were counted, not hashed: the time budget was spent")
    if restored.large_objects is None:
        remarks.append("sequences and large objects were not compared: the time budget was spent")
    for name, version in manifest.extensions.items():
        found = restored.extensions.get(name)
        if found and found != version:
            remarks.append(f"extension {name} is {found} there, {version} in the original")
    return tuple(remarks)
