"""A task like KuaiEnv: every answer of 1,411 people to 3,327 videos is known from KuaiRec.

Gao et al. 2022, "KuaiRec: A fully-observed dataset and insights for evaluating recommender systems",
arXiv 2202.10842; the rule of leaving is KuaiEnv's (Gao et al. 2023, "CIRS: Bursting filter bubbles by
counterfactual interactive recommender system", arXiv 2204.01266, section 5.1):

    reward    the watch ratio of the video by the person, 5 at most; 0 where the data has none, the mean
              where it is no number
    leaving   when among the last 5 videos more than one shared a category with the video shown;
              and always after 100 videos
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recloop.market.crowd import Crowd
from recloop.market.interface import Observation, Outcome, push

MATRIX, CATEGORIES = "small_matrix.csv", "item_categories.csv"
WINDOW, TOLERATED, LONGEST = 5, 1, 100
MOST = 5.0  # watch ratio
LIKED = 1.0  # watch ratio from which a video counts as clicked: seen to its end


class KuaiDataError(ValueError):
    """A folder does not hold KuaiRec's files in the published layout; the message says what is wrong."""


@dataclass(frozen=True)
class KuaiData:
    """KuaiRec's small matrix.

    Attributes:
        ratio: float32 (U, N), watch ratio, 0 where the data has none.
        category: bool (N, C), of each video.
        users: int64 (U,), KuaiRec's ids.
        videos: int64 (N,), KuaiRec's ids, by item index.
    """

    ratio: np.ndarray
    category: np.ndarray
    users: np.ndarray
    videos: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``small_matrix.csv`` and ``item_categories.csv``.

        Raises:
            KuaiDataError: a file is missing, lacks a column, or holds what cannot be read.
        """
        user, video, ratio = _interactions(folder / MATRIX)
        users, row = np.unique(user, return_inverse=True)
        videos, column = np.unique(video, return_inverse=True)
        matrix = np.zeros((len(users), len(videos)), np.float32)
        matrix[row, column] = np.minimum(ratio, MOST)
        of_video = _categories(folder / CATEGORIES)
        lacking = [int(v) for v in videos if int(v) not in of_video]
        if lacking:
            raise KuaiDataError(
                f"{folder / CATEGORIES} lacks {len(lacking)} of the {len(videos)} videos of {MATRIX}, the"
                f" first is {lacking[0]}: take both files from the same release"
            )
        names = sorted({c for v in videos for c in of_video[int(v)]})
        place = {c: i for i, c in enumerate(names)}
        category = np.zeros((len(videos), len(names)), bool)
        for i, v in enumerate(videos):
            category[i, [place[c] for c in of_video[int(v)]]] = True
        return cls(matrix, category, users, videos)


class KuaiEnv(Crowd):
    """The task as a ``Market``; a slate is one video, as KuaiEnv recommends.

    ``clicked`` is 0 where the video was seen to its end, else -1. ``profile`` float32 (B, 1) is 0: who
    somebody is shows in ``history``, the videos that were seen to their end; ``context`` float32 (B, 1)
    is the share of the longest session that is over.

    Attributes:
        features: float32 (N, C), multi-hot categories: what can be seen of a video.
        persons: int64 (B,), rows of ``KuaiData.ratio``.
        recent: int64 (B, 5), the last videos shown, newest first, padded with N.
    """

    persons: Tensor
    recent: Tensor
    history: Tensor
    requests: Tensor

    def __init__(self, data: KuaiData, seed: int, history: int = 10, device: str = "cpu") -> None:
        self.device, self.n_items = torch.device(device), len(data.videos)
        self._ratio = torch.from_numpy(data.ratio).to(self.device)
        self.features = torch.from_numpy(data.category).float().to(self.device)
        self._category = torch.cat([self.features, torch.zeros_like(self.features[:1])])
        self._memory = history
        self.seed(seed)

    def _arrivals(self, count: int) -> dict[str, Tensor]:
        drawn = torch.randint(len(self._ratio), (count,), generator=self._generator, device=self.device)
        return {
            "persons": drawn,
            "recent": torch.full((count, WINDOW), self.n_items, device=self.device),
            "history": torch.full((count, self._memory), self.n_items, device=self.device),
            "requests": torch.zeros(count, dtype=torch.int64, device=self.device),
        }

    def observe(self) -> Observation:
        """What a policy sees; see the class."""
        over = self.requests[:, None] / LONGEST
        return {"profile": torch.zeros_like(over), "context": over, "history": self.history}

    @torch.no_grad()
    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, 1) videos.

        Raises:
            ValueError: slates of another shape, or that name items beyond N.
        """
        slates = self._shown(slates, len(self.persons))
        if slates.shape[1] != 1:
            raise ValueError(f"a slate of KuaiEnv is one video, not {slates.shape[1]}: set slate to 1")
        item = slates[:, 0]
        real = item < self.n_items
        ratio = self._ratio[self.persons, item.clamp(max=self.n_items - 1)] * real
        alike = (self._category[self.recent].sum(1) * self._category[item]).amax(1)
        self.requests = self.requests + 1
        self.recent = push(self.recent, item, real)
        clicked = ratio >= LIKED
        self.history = push(self.history, item, clicked)
        done = (alike > TOLERATED) | (self.requests >= LONGEST)
        return Outcome(clicked.long() - 1, torch.zeros_like(clicked), ratio, done)


def _interactions(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """user_id, video_id int64 and watch_ratio float64, a row per interaction."""
    columns = ("user_id", "video_id", "watch_ratio")
    places = _places(path, columns)
    with path.open(encoding="utf-8") as file:
        if sum(1 for _, line in zip(range(2), file, strict=False) if line.strip()) < 2:
            raise KuaiDataError(f"{path} holds no interaction: download KuaiRec again")
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=places, ndmin=2, encoding="utf-8")
    except (ValueError, IndexError) as error:
        raise KuaiDataError(f"{path} cannot be read: {error}") from error
    bad = ~np.isfinite(table[:, :2]).all(1) | (table < 0).any(1)
    if bad.any():
        raise KuaiDataError(
            f"line {int(bad.argmax()) + 2} of {path} holds an id that is no number, or a negative number"
        )
    ratio = table[:, 2]
    known = np.isfinite(ratio)
    if not known.any():
        raise KuaiDataError(f"{path} holds no watch_ratio that is finite: download KuaiRec again")
    ratio = np.where(known, ratio, np.minimum(ratio[known], MOST).mean())  # as KuaiEnv does
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), ratio


def _categories(path: Path) -> dict[int, list[int]]:
    """Video id to its categories; a row is ``video_id,"[8, 15]"``."""
    video, feat = _places(path, ("video_id", "feat"))
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if number == 1:
                continue
            try:
                categories = json.loads(row[feat])
                found[int(row[video])] = [int(c) for c in categories]
            except (ValueError, TypeError, IndexError) as error:
                raise KuaiDataError(f'line {number} of {path} is no video_id,"[category, ...]"') from error
    return found


def _places(path: Path, names: tuple[str, ...]) -> list[int]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError) as error:
        raise KuaiDataError(
            f"{path} cannot be read ({error}): unpack KuaiRec's archive, and name its folder data"
        ) from error
    lacking = [name for name in names if name not in header]
    if lacking:
        raise KuaiDataError(f"{path} lacks the column {', '.join(lacking)}: its first line is {header}")
    return [header.index(name) for name in names]
