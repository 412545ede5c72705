"""What the store knows of a person, as long as the store can be read."""

import logging
import threading
import time
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from recloop.schema import Arrival, User
from recloop.serving.messages import AWAY, UNFIT
from recloop.store import Outcome, Rows, StoreError, fault_of, known, open_store, take
from recloop.store.consent import SERVICE, Terms, allowed, assumed_here, words_of

log = logging.getLogger("recloop.slot")


class Known(NamedTuple):
    """Of one person.

    Attributes:
        user: the profile; None of a stranger.
        liked: item ids, newest first.
        history: ``known``, ``none`` (nothing liked yet), ``away`` (the store cannot be read) or ``unfit`` (a
            profile that cannot be used); of the last two a stranger's profile and history.
    """

    user: User | None
    liked: list[str]
    history: str


class Past:
    """A store that may be away: everybody is a stranger until it is back.

    ``terms``: the version of the terms that holds, by purpose; 1 where there are none.

    Attributes:
        retry_seconds: how long a store that could not be opened is left alone.
    """

    retry_seconds = 5.0

    def __init__(self, url: str, terms: Terms | None = None) -> None:
        self._url, self._terms, self._assumed = url, terms or {}, assumed_here()
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._reason, self._again = "it is being opened", 0.0
        self._said = False  # in the log, that the store is away

    @property
    def near(self) -> bool:
        """Whether reading is a matter of microseconds: a file (readers of SQLite's WAL wait for nobody)."""
        return self._url.startswith("sqlite:") or not self._url

    def store(self) -> Engine:
        """The store, opened on first use and again where that failed before.

        Raises:
            StoreError: it cannot be opened, or none was given.
        """
        if self._engine is not None:
            return self._engine
        if not self._url:
            raise StoreError("this slot was given no store: set RECLOOP_STORE_URL")
        if time.monotonic() < self._again or not self._opening.acquire(blocking=False):
            raise StoreError(self._reason)
        try:
            self._engine = open_store(self._url)
        except (StoreError, SQLAlchemyError, ImportError) as error:
            self._reason = str(error)
            self._again = time.monotonic() + self.retry_seconds
            raise StoreError(self._reason) from error
        finally:
            self._opening.release()
        return self._engine

    def of(self, user_id: str, limit: int, rating_positive: float) -> Known:
        """What is known of a person, of the history ``limit`` items at most."""
        try:
            user, liked = known(self.store(), user_id, limit, rating_positive)
        except (StoreError, SQLAlchemyError) as error:
            if not self._said:
                log.error("everybody is a stranger until the store can be read: %s", fault_of(error))
            self._said = True
            return Known(None, [], AWAY)
        except ValueError as error:  # a row that no User can hold
            log.error("a profile cannot be used: %s", _wrong(error))
            return Known(None, [], UNFIT)
        self._said = False
        return Known(user, liked, "known" if liked else "none")

    def keep(self, act: Arrival) -> Outcome | None:
        """Write an act of feedback; on disk when it returns. None: its person does not let it be stored.

        Raises:
            StoreError: it cannot be written now.
        """
        try:
            store = self.store()
            words = words_of(store, [act.user_id]).get(act.user_id, {})
            if SERVICE not in allowed(words, self._terms, self._assumed):
                return None
            return take(store, Rows(acts=[act], source="slot")).acts[0]
        except SQLAlchemyError as error:
            log.error("feedback was not stored: %s", fault_of(error))
            raise StoreError(f"the store cannot be written now ({type(error).__name__})") from error


def _wrong(error: ValueError) -> str:
    """Which fields, and how; never what they hold."""
    if isinstance(error, ValidationError):
        return ", ".join(f"{'.'.join(map(str, e['loc']))} ({e['type']})" for e in error.errors())
    return type(error).__name__
