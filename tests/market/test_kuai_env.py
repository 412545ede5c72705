"""The task of KuaiRec on small files of the published layout."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from recloop.market import KuaiData, KuaiDataError, KuaiEnv, Market, SinglePerson

HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
USERS, VIDEOS = (14, 19, 21), (148, 183, 3649, 5262)
CATEGORIES = {148: [8], 183: [8, 9], 3649: [1], 5262: [9, 1]}
RATIO = np.array([[0.5, 1.2, 9.0, 0.0], [2.0, 0.3, 1.0, 0.7], [0.1, 0.2, 0.3, 0.4]])


def publish(folder: Path) -> Path:
    """Files as KuaiRec's archive has them, whose last entry is missing."""
    lines = [HEADER]
    for u, user in enumerate(USERS):
        for v, video in enumerate(VIDEOS):
            if (u, v) != (2, 3):
                lines.append(
                    f"{user},{video},4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,{RATIO[u, v]}"
                )
    (folder / "small_matrix.csv").write_text("\n".join(lines) + "\n")
    rows = [f'{video},"{categories}"' for video, categories in CATEGORIES.items()] + ['7,"[31]"']
    (folder / "item_categories.csv").write_text("video_id,feat\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> KuaiData:
    return KuaiData.load(publish(tmp_path))


def test_the_files_are_read_as_published(data: KuaiData) -> None:
    expected = np.minimum(RATIO, 5)
    expected[2, 3] = 0
    assert data.ratio == pytest.approx(expected)
    assert (data.users.tolist(), data.videos.tolist()) == (list(USERS), list(VIDEOS))
    assert data.category.tolist() == [
        [False, True, False],
        [False, True, True],
        [True, False, False],
        [True, False, True],
    ]


def test_answers_are_those_of_the_matrix(data: KuaiData) -> None:
    task = KuaiEnv(data, seed=1)
    task.reset(60)
    assert set(task.persons.tolist()) == {0, 1, 2}
    video = torch.arange(60) % 5
    outcome = task.step(video[:, None])
    padded = np.hstack([data.ratio, np.zeros((3, 1), np.float32)])
    expected = torch.tensor(padded[task.persons.numpy(), video.numpy()])
    torch.testing.assert_close(outcome.reward, expected)
    assert torch.equal(outcome.clicked, torch.where(expected >= 1, 0, -1))
    assert not outcome.bought.any()
    first = task.observe()["history"][:, 0]
    assert torch.equal(first, torch.where(expected >= 1, video, 4))


def test_people_leave_by_kuaienvs_rule(data: KuaiData) -> None:
    """Against the rule written as KuaiEnv has it: categories counted over the last five videos."""
    task, rng = KuaiEnv(data, seed=1), np.random.default_rng(2)
    shown: list[list[int]] = [[] for _ in range(300)]
    task.reset(300)
    left = 0
    for _ in range(8):
        videos = rng.integers(0, 4, 300)
        done = task.step(torch.from_numpy(videos)[:, None]).done
        for b, video in enumerate(videos):
            counts = Counter(c for i in shown[b][-5:] for c in CATEGORIES[VIDEOS[i]])
            assert bool(done[b]) == any(counts[c] > 1 for c in CATEGORIES[VIDEOS[video]])
            shown[b].append(int(video))
        left += int(done.sum())
    assert 0 < left < 8 * 300


def test_everyone_leaves_after_a_hundred_videos() -> None:
    alone = KuaiData(np.ones((1, 2), np.float32), np.zeros((2, 1), bool), np.array([1]), np.array([1, 2]))
    task = KuaiEnv(alone, seed=1)
    task.reset(3)
    done = [bool(task.step(torch.zeros(3, 1, dtype=torch.int64)).done.all()) for _ in range(100)]
    assert done == [False] * 99 + [True]


def test_it_is_a_market_of_single_videos_and_gymnasium_accepts_it(data: KuaiData) -> None:
    market: Market = KuaiEnv(data, seed=1)
    check_env(SinglePerson(market, slate=1), skip_render_check=True)
    market.reset(2)
    with pytest.raises(ValueError, match="one video, not 2"):
        market.step(torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("small_matrix.csv", "watch_ratio", "ratio", "lacks the column watch_ratio"),
        ("small_matrix.csv", ",0.5", ",much", "cannot be read"),
        ("small_matrix.csv", ",0.5", ",-0.5", "line 2 .* negative"),
        ("small_matrix.csv", "14,148,", "nan,148,", "line 2 .* no number"),
        ("item_categories.csv", "feat", "tags", "lacks the column feat"),
        ("item_categories.csv", "[8, 9]", "[8, nine]", "line 3 .* no video_id"),
        ("item_categories.csv", '183,"[8, 9]"', '184,"[8, 9]"', "lacks 1 of the 4 videos .* 183"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, old: str, new: str, why: str) -> None:
    file = publish(tmp_path) / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(KuaiDataError, match=why):
        KuaiData.load(tmp_path)


@pytest.mark.parametrize("name", ["small_matrix.csv", "item_categories.csv"])
def test_a_missing_or_empty_file_is_named(tmp_path: Path, name: str) -> None:
    file = publish(tmp_path) / name
    header = file.read_text().splitlines()[0]
    file.write_text(header + "\n")
    with pytest.raises(KuaiDataError, match=r"no interaction|lacks 4 of the 4"):
        KuaiData.load(tmp_path)
    file.write_text("")
    with pytest.raises(KuaiDataError, match="lacks the column"):
        KuaiData.load(tmp_path)
    file.unlink()
    with pytest.raises(KuaiDataError, match=f"{name}.*unpack"):
        KuaiData.load(tmp_path)


def test_a_ratio_that_is_no_number_takes_the_mean(tmp_path: Path) -> None:
    file = publish(tmp_path) / "small_matrix.csv"
    file.write_text(file.read_text().replace(",0.5\n", ",nan\n", 1))
    known = np.delete(np.minimum(RATIO, 5).ravel(), [0, 11])
    assert KuaiData.load(tmp_path).ratio[0, 0] == pytest.approx(known.mean())
