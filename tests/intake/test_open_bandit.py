"""Open Bandit's published folders: propensities and positions as logged, people as segments."""

from pathlib import Path

import pytest

from recloop.intake import DatasetError
from recloop.intake.open_bandit import read_open_bandit

HEADER = ",timestamp,item_id,position,click,propensity_score," + ",".join(
    f"user_feature_{n}" for n in range(4)
)
ROWS = [
    "0,2019-11-24 00:03:13.442536+00:00,1,3,0,0.029411764705882353,aa,bb,cc,dd,0.0",
    "1,2019-11-24 00:03:14+00:00,0,1,1,0.5,aa,bb,cc,dd,0.0",
    "2,2019-11-24 09:05:39.5+09:00,0,2,0,1.0,aa,bb,cc,ee,0.0",
]


def campaign(folder: Path, salt: str = "", rows: list[str] = ROWS) -> Path:
    folder.mkdir(parents=True)
    lines = [HEADER + ",user-item_affinity_0", *rows]
    (folder / f"{folder.name}.csv").write_text("\n".join(lines) + "\n")
    header = ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3"
    items = [header, f"0,0,-0.5,{salt}p,{salt}q,{salt}r", f"1,1,0.25,{salt}s,{salt}q,{salt}t"]
    (folder / "item_context.csv").write_text("\n".join(items) + "\n")
    return folder


def records(folder: Path):
    source = read_open_bandit(folder)
    batches = list(source.batches())
    assert sum(map(len, batches)) == source.size
    fields = ("users", "items", "impressions", "events", "refused")
    return source, [[row for batch in batches for row in getattr(batch, name)] for name in fields]


def test_rows_become_partial_impressions_with_the_published_propensity(tmp_path):
    campaign(tmp_path / "random" / "men")
    _, (users, items, shown, clicks, refused) = records(tmp_path)
    assert refused == []
    midnight = 1574553600_000_000
    assert [(s.request_id, s.item_id, s.position, s.propensity, s.ts - midnight) for s in shown] == [
        ("random-men-0", "men-1", 2, 0.029411764705882353, 193_442_536),
        ("random-men-1", "men-0", 0, 0.5, 194_000_000),
        ("random-men-2", "men-0", 1, 1.0, 339_500_000),
    ]
    assert {(s.policy, s.partial) for s in shown} == {("random", True)}
    assert [(c.request_id, c.item_id, c.kind, c.ts) for c in clicks] == [
        ("random-men-1", "men-0", "click", shown[1].ts)
    ]
    assert shown[0].user_id == shown[1].user_id != shown[2].user_id
    assert [u.attributes["user_feature_3"] for u in users] == ["dd", "ee"]
    assert [(i.title, i.category, i.attributes["item_feature_0"]) for i in items] == [
        ("men item 0", "group-0", -0.5),
        ("men item 1", "group-1", 0.25),
    ]


def test_item_features_do_not_depend_on_the_salt_of_a_folder(tmp_path):
    campaign(tmp_path / "a" / "bts" / "men", salt="x")
    campaign(tmp_path / "b" / "random" / "men", salt="y")
    assert records(tmp_path / "a")[1][1] == records(tmp_path / "b")[1][1]


def test_policies_and_campaigns_are_kept_apart(tmp_path):
    for policy in ("bts", "random"):
        for name in ("men", "women"):
            campaign(tmp_path / policy / name, salt=policy)
    source, (users, items, shown, clicks, _) = records(tmp_path)
    assert (len(users), len(items), len(shown), len(clicks)) == (2, 4, 12, 4)
    assert len({s.request_id for s in shown}) == 12
    assert [s.ts for s in shown] == sorted(s.ts for s in shown)
    assert set(source.tables()) == {
        f"{p}/{c}{i}" for p in ("bts", "random") for c in ("men", "women") for i in ("", " items")
    }


def test_one_policys_own_folder_gives_the_same_rows(tmp_path):
    campaign(tmp_path / "random" / "men")
    assert records(tmp_path)[1] == records(tmp_path / "random")[1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("3,2019-11-24,1,3,0,0.5,aa,bb,cc,dd,0.0", "timestamp: no time with an offset from UTC"),
        ("3,2019-11-24 00:03:14+00:00,1,4,0,0.5,aa,bb,cc,dd,0.0", "position: no number from 1 to 3"),
        ("3,2019-11-24 00:03:14+00:00,1,1,2,0.5,aa,bb,cc,dd,0.0", "click: no number from 0 to 1"),
        ("3,2019-11-24 00:03:14+00:00,1,1,0,1.5,aa,bb,cc,dd,0.0", "propensity_score: no number from 0 to 1"),
        (
            "3,2019-11-24 00:03:14+00:00,1,1,0,0,aa,bb,cc,dd,0",
            "propensity_score: 0, though the item was shown",
        ),
        ("3,2019-11-24 00:03:14+00:00,7,1,0,0.5,aa,bb,cc,dd,0.0", "item_id: not among the items kept"),
        ("3,2019-11-24 00:03:14+00:00,1,1,0,0.5,aa", "not 11 fields"),
    ],
)
def test_a_bad_row_is_quarantined_and_the_rest_goes_on(row, reason, tmp_path):
    campaign(tmp_path / "random" / "men", rows=[ROWS[0], row, *ROWS[1:]])
    source, (_, _, shown, _, refused) = records(tmp_path)
    assert [s.request_id for s in shown] == ["random-men-0", "random-men-2", "random-men-3"]
    assert [(r.source, r.kind, r.reason, r.body["line"]) for r in refused] == [
        ("open-bandit", "impressions", reason, 3)
    ]
    assert source.tables()["random/men"].reasons == {reason: 1}


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no folder"):
        read_open_bandit(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"looked for <policy>/<campaign>.*found nothing"):
        read_open_bandit(tmp_path)
    folder = campaign(tmp_path / "random" / "men")
    log = (folder / "men.csv").read_bytes()
    (folder / "men.csv").write_bytes(log[:-20])
    with pytest.raises(DatasetError, match=r"men\.csv ends within line 4: it is truncated"):
        read_open_bandit(tmp_path)
    (folder / "men.csv").write_bytes(log.replace(b"propensity_score", b"pscore"))
    with pytest.raises(DatasetError, match=r"men\.csv has no column propensity_score"):
        read_open_bandit(tmp_path)
    (folder / "men.csv").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"men\.csv is empty"):
        read_open_bandit(tmp_path)
    (folder / "men.csv").write_bytes(log)
    (folder / "item_context.csv").unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*item_context\.csv"):
        read_open_bandit(tmp_path)
