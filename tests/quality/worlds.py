"""A tiny snapshot in which everything is in order, as rows of plain values, to be spoilt by tests."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.schema.arrow import TABLES

World = dict[str, list[dict]]
START = 1_700_000_000_000_000
NOW = START + 365 * 86_400_000_000
SPAN = 1_000_000_000  # every world has this many microseconds for itself


def world(number: int = 0) -> World:
    """4 people, 4 items, 4 requests of 3 items, a partial request, and 10 events; ids begin ``w<n>.``."""
    ids, start = f"w{number}.", START + number * SPAN
    users = [
        {"user_id": f"{ids}u{n}", "age": 20 + n, "sex": "FMX"[n % 3], "region": "8", "attributes": '{"a": 1}'}
        for n in range(4)
    ]
    items = [
        {"item_id": f"{ids}i{n}", "title": f"Item {n}", "category": "c", "price": n * 1.5, "available": True}
        | {"attributes": "{}", "text": f"What item {n} is", "image": f"https://images.example/{n}"}
        for n in range(4)
    ]
    for row in users + items:
        row["created_at"] = start
    shown, acts = [], []
    for n in range(4):
        common = {"request_id": f"{ids}r{n}", "user_id": f"{ids}u{n}", "policy": "p", "slot": "blue"}
        common |= {"device": "phone", "partial": False, "ts": start + 10 * n}
        for position, propensity in enumerate((0.5, 0.25, 1.0)):
            item = f"{ids}i{(n + position) % 4}"
            shown.append(common | {"position": position, "item_id": item, "propensity": propensity})
        for kind, value in (("click", 1.0), ("rating", 5.0)):
            act = {"event_id": f"{ids}e{n}{kind}", "user_id": f"{ids}u{n}", "item_id": f"{ids}i{n}"}
            acts.append(
                act | {"kind": kind, "value": value, "request_id": f"{ids}r{n}", "ts": start + 10 * n + 5}
            )
    shown.append(shown[0] | {"request_id": f"{ids}part", "position": 2, "partial": True})
    acts.append(acts[0] | {"event_id": f"{ids}part", "request_id": f"{ids}part", "item_id": f"{ids}i3"})
    acts.append(acts[0] | {"event_id": f"{ids}free", "request_id": None})
    return {"users": users, "items": items, "impressions": shown, "events": acts}


def tables(*worlds: World) -> dict[str, pa.Table]:
    """The worlds as Arrow tables of one snapshot; any column may hold nulls."""
    made = {}
    for name, schema in TABLES.items():
        loose = pa.schema([field.with_nullable(True) for field in schema])
        made[name] = pa.Table.from_pylist([row for one in worlds for row in one[name]], loose)
    return made


def write(folder: Path, made: dict[str, pa.Table]) -> Path:
    """The tables as a snapshot folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in made.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder
