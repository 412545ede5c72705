"""Several sources into one: which records are the same person or item, by declared rules.

A rule is some columns; records that agree in all of them are one. Rules are tried in their order, strongest
first. Where a stronger rule tells two of those who agree apart (both know its columns, and share no value),
the weaker one says nothing of any of them: a conflict. The order of rows is no matter.

Contact data (``email``, ``phone``) is normalised and hashed before it is compared; a SHA-256 in hex is taken
for the hash of a normalised value. Neither the links nor the report hold any of it.
"""

import csv
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import polars as pl

from recloop.intake.source import DatasetError

Rule = tuple[str, ...]
Key = tuple[str, ...]
HASH = re.compile(r"[0-9a-f]{64}")
HASHED = ("email", "phone")


@dataclass(frozen=True, order=True)
class Row:
    """One record: the place of its source among all, its id there, and its columns that are not empty."""

    source: int
    id: str
    columns: Mapping[str, str] = field(compare=False)


@dataclass
class RuleReport:
    """What one rule did: groups joined; keys of groups that are apart, and keys that too many share."""

    matched: int = 0
    conflicts: int = 0
    too_common: int = 0


@dataclass(frozen=True)
class Links:
    """Which record is whom.

    Attributes:
        names: id for all of each (source, id): that of the record of the first source that has it; with the
            source's name before it where that is not the first one given.
        rules: what each rule did, by its columns.
        matched: records that are one with another.
        alone: records that are one with no other.
        conflicts: per key the rule, and a record of each of two groups that are apart.
    """

    names: dict[tuple[str, str], str]
    rules: dict[str, RuleReport]
    matched: int
    alone: int
    conflicts: list[tuple[str, tuple[str, str], tuple[str, str]]]

    def save(self, path: Path) -> None:
        """Write ``source``, ``id`` and ``name`` of every record as CSV, in order."""
        with path.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("source", "id", "name"))
            rows.writerows((*record, name) for record, name in sorted(self.names.items()))


def read_rows(path: Path, source: int, key: str) -> list[Row]:
    """The records of a CSV, Parquet or JSON-lines file; ``key`` is the column with their ids.

    Raises:
        DatasetError: it cannot be read, has no such column, or an id is missing or there twice.
    """
    table = read_table(path)
    if key not in table.columns:
        raise DatasetError(f"{path} has no column {key}; its columns are {', '.join(table.columns[:12])}")
    rows = [
        Row(
            source,
            "" if row[key] is None else str(row[key]),
            {n: str(v) for n, v in row.items() if v not in (None, "")},
        )
        for row in table.iter_rows(named=True)
    ]
    ids = [row.id for row in rows]
    if "" in ids:
        raise DatasetError(f"{path}: row {ids.index('') + 1} has no {key}")
    if len(set(ids)) < len(ids):
        [(most, times)] = Counter(ids).most_common(1)
        raise DatasetError(f"{path}: {key} {most} is there {times} times; give each record once")
    return rows


def link(
    sources: Sequence[str], rows: Iterable[Row], rules: Sequence[Rule], country: str = "82", most: int = 20
) -> Links:
    """Link the rows by the rules; ``country``: calling code of phone numbers without one.

    A key that more than ``most`` rows share (a shop's own number, ``none@example.com``) says nothing.
    """
    known = sorted(rows)
    keys = {rule: [_key(row, rule, country) for row in known] for rule in rules}
    group = list(range(len(known)))  # of each row; a group is named by its first row
    members = {i: [i] for i in group}
    values: list[dict[Rule, set[Key | None]]] = [
        {rule: {key[i]} - {None} for rule, key in keys.items()} for i in group
    ]
    report = {"+".join(rule): RuleReport() for rule in rules}
    conflicts = []
    for rank, rule in enumerate(rules):
        name, same = "+".join(rule), defaultdict(list)
        for i, key in enumerate(keys[rule]):
            if key:
                same[key].append(i)
        for shared in same.values():
            if len(shared) > most:
                report[name].too_common += 1
                continue
            one, *others = sorted({group[i] for i in shared})
            if pair := _apart([one, *others], values, rules[:rank]):
                report[name].conflicts += 1
                conflicts.append((name, _named(known[pair[0]], sources), _named(known[pair[1]], sources)))
                continue
            for two in others:
                report[name].matched += 1
                for i in members.pop(two):
                    group[i] = one
                    members[one].append(i)
                for each in rules:
                    values[one][each] |= values[two][each]
    together = sum(len(rows) for rows in members.values() if len(rows) > 1)
    names = {_named(row, sources): _name(known[group[i]], sources) for i, row in enumerate(known)}
    return Links(names, report, together, len(known) - together, conflicts)


def merged(rows: Iterable[Row], links: Links, sources: Sequence[str], key: str) -> list[dict[str, str]]:
    """Each person or item once: a column is what the first source that knows it says; no contact data."""
    found: dict[str, dict[str, str]] = {}
    for row in sorted(rows):
        columns = {name: value for name, value in row.columns.items() if name not in HASHED}
        name = links.names[_named(row, sources)]
        found[name] = columns | found.get(name, {}) | {key: name}
    return [found[name] for name in sorted(found)]


def _apart(
    groups: Sequence[int], values: Sequence[Mapping[Rule, set[Key | None]]], stronger: Sequence[Rule]
) -> tuple[int, int] | None:
    """The first two groups that a stronger rule tells apart."""
    for one, two in combinations(groups, 2):
        for rule in stronger:
            if values[one][rule] and values[two][rule] and values[one][rule].isdisjoint(values[two][rule]):
                return one, two
    return None


def _named(row: Row, sources: Sequence[str]) -> tuple[str, str]:
    return sources[row.source], row.id


def _name(row: Row, sources: Sequence[str]) -> str:
    return row.id if row.source == 0 else f"{sources[row.source]}:{row.id}"


def _key(row: Row, rule: Rule, country: str) -> Key | None:
    """What the rule looks at, normalised; None where a column is empty."""
    found = tuple(_normal(column, row.columns.get(column, ""), country) for column in rule)
    return found if all(found) else None


def _normal(column: str, value: str, country: str) -> str:
    """Compared as people mean it: case, width and spaces are no matter, nor how a number is spelt."""
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if column.endswith("_id"):
        return value.strip()
    if column not in HASHED:
        return " ".join(re.findall(r"\w+", text))
    if HASH.fullmatch(text):
        return text
    contact = _phone(text, country) if column == "phone" else text if "@" in text else ""
    return hashlib.sha256(contact.encode()).hexdigest() if contact else ""


def _phone(text: str, country: str) -> str:
    """With its calling code, as E.164 without the plus."""
    abroad = text.startswith(("+", "00"))
    digits = re.sub(r"\D", "", text.replace("(0)", "") if abroad else text)
    if text.startswith("+"):
        return digits
    if digits.startswith("00"):
        return digits[2:]
    return country + digits[1:] if digits.startswith("0") else digits


def read_table(path: Path) -> pl.DataFrame:
    """A CSV, whose columns are all text, Parquet or JSON-lines file.

    Raises:
        DatasetError: it cannot be read, or is of no known kind.
    """
    if path.suffix not in READERS:
        raise DatasetError(f"{path} is none of {', '.join(READERS)}")
    try:
        return READERS[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error


def _csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _csv,
    ".parquet": pl.read_parquet,
    ".jsonl": pl.read_ndjson,
}
