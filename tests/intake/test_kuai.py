"""KuaiRand and KuaiRec in their published layouts: what is read, what is refused, imported once."""

import pytest
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.kuai import read_kuai
from recloop.intake.readers import read_dataset
from recloop.settings import load_params
from recloop.store import find_items, find_user, open_store
from recloop.store.person import tidy
from recloop.store.snapshot import watermark, write_snapshot
from recloop.store.tables import events, impressions
from tests.delivery.live import PARAMS

SIGNALS = "is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms"
STAYS = "profile_stay_time,comment_stay_time,is_profile_enter"
LOG = f"user_id,video_id,date,hourmin,time_ms,{SIGNALS},{STAYS},is_rand,tab\n"
STANDARD = LOG + (
    "0,3784,20220408,1300,1649395200000,1,0,0,0,0,0,1,15000,20000,0,0,0,0,1\n"
    "1,77,20220408,1300,1649395201000,0,1,0,0,0,1,0,0,20000,0,0,0,0,4\n"
)
RANDOM = LOG + "0,77,20220422,100,1650567600000,0,0,0,0,0,0,0,900,20000,0,0,0,1,1\n"
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
    'register_days,register_days_range,onehot_feat0\n0,full_active,0,0,0,7,"(0,10]",1,"[1,10)",0,0,107,61-90,0\n'
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
    'server_height,music_id,music_type,tag\n3784,6,NORMAL,2022-04-05,Long,1,20000,720,1280,5,9,"12,65"\n'
    "77,6,AD,2022-04-05,Long,1,,720,1280,5,9,\n"
)
MATRIX = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
BIG = MATRIX + (
    "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.273396521578172\n"
    "0,9598,27000,10984,2020-07-05 00:13:41.297,20200705,1593879221.297,2.4581\n"
)
SMALL = MATRIX + "14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.722103\n"


@pytest.fixture
def rand(tmp_path):
    folder = tmp_path / "KuaiRand-1K" / "data"
    folder.mkdir(parents=True)
    (folder / "log_standard_4_08_to_4_21_1k.csv").write_text(STANDARD)
    (folder / "log_random_4_22_to_5_08_1k.csv").write_text(RANDOM)
    (folder / "user_features_1k.csv").write_text(USERS)
    (folder / "video_features_basic_1k.csv").write_text(VIDEOS)
    return folder.parent


@pytest.fixture
def rec(tmp_path):
    (tmp_path / "big_matrix.csv").write_text(BIG)
    (tmp_path / "small_matrix.csv").write_text(SMALL)
    (tmp_path / "item_categories.csv").write_text('video_id,feat\n3649,[8]\n9598,"[27, 9]"\n148,[28]\n')
    return tmp_path


def rows(engine, table, *names):
    with engine.connect() as connection:
        found = connection.execute(
            select(*[table.c[name] for name in names]).order_by(table.c.ts, table.c.seq)
        )
        return [tuple(row) for row in found]


def test_kuairand(rand, store_url):
    engine = open_store(store_url)
    report = import_into(engine, read_dataset(rand), progress=False)
    assert report.source == "kuai-rand"
    assert report.added == {"users": 2, "items": 2, "impressions": 3, "events": 4}
    assert rows(engine, impressions, "user_id", "item_id", "policy", "propensity", "partial") == [
        ("u0", "v3784", "tab-1", None, True),
        ("u1", "v77", "tab-4", None, True),
        ("u0", "v77", "random", None, True),
    ]
    assert rows(engine, events, "user_id", "item_id", "kind", "value") == [
        ("u0", "v3784", "click", 1.0),
        ("u0", "v3784", "dwell", 15.0),
        ("u1", "v77", "dismiss", 1.0),
        ("u0", "v77", "dwell", 0.9),
    ]
    assert rows(engine, impressions, "ts")[0] == (1649395200000_000,)
    assert find_user(engine, "u0").attributes["follow_user_num_range"] == "(0,10]"
    assert find_user(engine, "u1").attributes == {}
    seen, other = find_items(engine)
    assert (seen.category, seen.attributes) == ("tag 12", {"video_type": "NORMAL", "tags": "12|65"})
    assert (other.category, other.attributes) == ("other", {"video_type": "AD"})
    assert set(import_into(engine, read_dataset(rand), progress=False).added.values()) == {0}


def test_kuairec(rec, store_url):
    engine = open_store(store_url)
    report = import_into(engine, read_dataset(rec), progress=False)
    assert report.source == "kuai-rec"
    assert report.added == {"users": 2, "items": 3, "impressions": 3, "events": 4}
    assert rows(engine, events, "item_id", "kind", "value") == [
        ("v3649", "dwell", 13.838),
        ("v9598", "click", 1.0),
        ("v9598", "dwell", 27.0),
        ("v148", "dwell", 4.381),
    ]
    assert rows(engine, impressions, "ts", "policy")[0] == (1593878903438_000, "organic")
    assert find_items(engine, ["v9598"])[0].attributes == {"tags": "27|9"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("14,183,11635,6100,,,,1.907377", "timestamp: no number"),  # so published for some rows
        ("14,183,x,6100,t,d,1593898068.378,1.9", "play_duration"),
        ("14,183,1,6100,t,d,1593898068378,1.9", "timestamp: no number"),
        ("14,183,1,6100,t,d,1593898068.378,-1", "watch_ratio"),
        ("14,183", "not 8 fields"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(rec, line, reason):
    (rec / "small_matrix.csv").write_text(SMALL + line + "\n")
    (refused,) = read_kuai(rec).refused
    assert refused.reason.startswith(reason)
    assert refused.body == {"file": "small_matrix.csv", "line": 3, "text": line}


def test_another_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match=r"looked for log_standard_\*\.csv"):
        read_kuai(tmp_path)
    (tmp_path / "big_matrix.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="no column user_id"):
        read_kuai(tmp_path)


def test_people_of_a_published_log_are_learnt_from_and_kept(rand, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    import_into(engine, read_kuai(rand), progress=False)
    assert write_snapshot(engine, watermark(engine), tmp_path / "snapshot").rows["impressions"] == 3
    assert tidy(engine, load_params(PARAMS).privacy.keep_days, tmp_path) == {
        "quarantine": 0, "accesses": 0, "backups": 0,
    }  # fmt: skip
