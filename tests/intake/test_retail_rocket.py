"""RetailRocket in its published layout: what is read, what is refused, and that it is imported once."""

import pytest
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.readers import read_dataset
from recloop.intake.retail_rocket import read_retail_rocket
from recloop.store import find_items, open_store
from recloop.store.tables import events, impressions

EVENTS = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,view,248676,
1433221999827,257597,addtocart,355908,
1433222276276,257597,transaction,355908,4000
"""
PROPERTIES = [
    """timestamp,itemid,property,value
1435460400000,355908,categoryid,1338
1441508400000,248676,available,1
1441508400000,355908,790,n277.200
""",
    """timestamp,itemid,property,value
1436065200000,355908,categoryid,1339
1442113200000,248676,available,0
1442113200000,1,888,1116713 960601 n277.200
""",
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    for number, text in enumerate(PROPERTIES, 1):
        (tmp_path / f"item_properties_part{number}.csv").write_text(text)
    (tmp_path / "category_tree.csv").write_text("categoryid,parentid\n1338,1278\n1278,\n")
    return tmp_path


def test_acts_and_the_newest_properties_are_read_and_only_once(folder, store_url):
    engine = open_store(store_url)
    source = read_dataset(folder)
    assert (source.name, source.size) == ("retail-rocket", 2 + 2 + 4 + 4)
    report = import_into(engine, source, progress=False)
    assert report.added == {"users": 2, "items": 2, "impressions": 4, "events": 4}
    assert report.tables["events"].read == 4
    with engine.connect() as connection:
        acts = connection.execute(select(events).order_by(events.c.ts)).all()
        shown = connection.execute(select(impressions)).all()
    assert [(act.user_id, act.item_id, act.kind) for act in acts] == [
        ("v257597", "i355908", "view"),
        ("v257597", "i355908", "cart"),
        ("v257597", "i355908", "purchase"),
        ("v992329", "i248676", "view"),
    ]
    assert acts[0].ts == 1433221332117_000
    assert {(row.propensity, row.policy, row.partial) for row in shown} == {(None, "organic", False)}
    assert {row.request_id for row in shown} == {act.request_id for act in acts}
    away, sold = find_items(engine)
    assert (away.item_id, away.category, away.available) == ("i248676", "other", False)
    assert (sold.item_id, sold.category, sold.available) == ("i355908", "category 1339", True)
    assert set(import_into(engine, read_dataset(folder), progress=False).added.values()) == {0}


@pytest.mark.parametrize(
    ("line", "reason", "failure"),
    [
        ("soon,1,view,2,", "timestamp", "range"),
        ("1433221332117,1,look,2,", "event: none of view", "schema"),
        ("1433221332117,1,transaction,2,", "transactionid", "schema"),
        ("1433221332117,257597,view,355908", "not 5 fields", "schema"),
        ("1433221332117,a b,view,355908,", "visitorid", "schema"),
        ("1433221332117,257597,view,355908,", "repeats", "duplicate"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(folder, line, reason, failure):
    (folder / "events.csv").write_text(EVENTS + line + "\n")
    source = read_retail_rocket(folder)
    (refused,) = source.refused
    assert reason in refused.reason
    assert refused.failure == failure
    assert refused.body == {"file": "events.csv", "line": 6, "text": line}
    assert source.reports["events"].kept == 4


def test_a_bad_property_is_refused(folder):
    path = folder / "item_properties_part2.csv"
    path.write_text(PROPERTIES[1] + "1442113200000,1,available,maybe\n")
    assert "availability" in read_retail_rocket(folder).refused[0].reason


def test_without_properties_every_item_is_other(folder):
    for path in folder.glob("item_properties*"):
        path.unlink()
    assert {item.category for item in read_retail_rocket(folder).items} == {"other"}


def test_another_dataset_s_events_are_not_taken_for_it(tmp_path):
    (tmp_path / "events.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"is no RetailRocket: its header is 'a,b'"):
        read_retail_rocket(tmp_path)
    with pytest.raises(DatasetError, match=r"looked for events\.csv"):
        read_retail_rocket(tmp_path / "nowhere")
