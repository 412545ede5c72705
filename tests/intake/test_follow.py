"""A log that is written, rotated, gzipped and copied away while it is read: none is lost, none doubled."""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from recloop.intake import DatasetError, follow, import_into
from recloop.intake.follow import AT_ONCE, FollowedLog, cursor_of
from recloop.store import open_store
from recloop.store.cursors import find_cursor
from recloop.store.quarantine import held
from recloop.store.tables import events


def line(number):
    if number % 3 == 0:
        act = {"user_id": "u", "item_id": f"i{number}", "kind": "click", "ts": 1_760_000_000_000_000 + number}
        return json.dumps(act) + "\n"
    return (
        f'203.0.113.9 - - [10/Oct/2025:13:55:36 +0000] "GET /items/i{number}?uid=u HTTP/1.1" 200 5 "-" "-"\n'
    )


class Server:
    """Who writes the log and rotates it, as logrotate does."""

    def __init__(self, path):
        self.path, self.written, self.number = path, 0, 0
        path.touch()

    def write(self, count, end="\n"):
        text = "".join(line(n) for n in range(self.written, self.written + count))
        self.written += count
        with self.path.open("a") as file:
            file.write(text[:-1] + end if text else "")

    def rotate(self, how):
        self.number += 1
        old = self.path.with_name(f"{self.path.name}-{self.number:03}")
        if how == "copy":
            shutil.copy2(self.path, old)
            os.truncate(self.path, 0)
            return
        self.path.rename(old)
        if how == "gzip":
            stat = old.stat()
            with gzip.open(f"{old}.gz", "wb") as packed:
                packed.write(old.read_bytes())
            os.utime(f"{old}.gz", ns=(stat.st_atime_ns, stat.st_mtime_ns))
            old.unlink()
        self.path.touch()


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "access.log")


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def read(engine, server, **words):
    place = find_cursor(engine, cursor_of(server.path))
    return import_into(engine, FollowedLog(server.path, place, **words), progress=False)


def seen(engine):
    with engine.connect() as connection:
        items = connection.execute(select(events.c.item_id).order_by(events.c.seq)).scalars()
        return [int(item[1:]) for item in items]


def test_it_goes_on_where_it_was_left(engine, server):
    server.write(10)
    assert read(engine, server).tables["lines"].read == 10
    assert read(engine, server).tables["lines"].read == 0
    server.write(5)
    assert read(engine, server).tables["lines"].read == 5
    assert seen(engine) == list(range(15))


@pytest.mark.parametrize("how", ["rename", "gzip", "copy"])
def test_a_rotation_between_two_readings_loses_nothing(engine, server, how):
    server.write(10)
    read(engine, server)
    for _ in range(3):
        server.write(4)
        server.rotate(how)
        server.write(3)
    server.rotate(how)
    assert read(engine, server).tables["lines"].read == 21, "and nothing is read again"
    server.write(2)
    assert read(engine, server).tables["lines"].read == 2
    assert seen(engine) == list(range(33))


def test_what_was_rotated_before_the_first_reading_counts_too(engine, server):
    for how in ("gzip", "rename", "gzip"):
        server.write(5)
        server.rotate(how)
    server.write(5)
    read(engine, server)
    assert seen(engine) == list(range(20))


def test_a_line_is_read_when_it_has_ended(engine, server):
    server.write(2)
    with server.path.open("a") as file:
        file.write(line(2)[:30])
    assert read(engine, server).tables["lines"].read == 2
    with server.path.open("a") as file:
        file.write(line(2)[30:])
    server.written = 3
    assert read(engine, server).tables["lines"].read == 1
    server.write(1, end="")
    server.rotate("rename")
    server.write(1)
    assert read(engine, server).tables["lines"].read == 2, "a rotated file's last line need not end"
    assert seen(engine) == list(range(5))


def test_a_server_may_write_to_the_old_file_for_a_while(engine, server, monkeypatch):
    server.write(3)
    clock, waits = [server.path.stat().st_mtime], []
    monkeypatch.setattr(follow, "time", SimpleNamespace(time=lambda: clock[0]))

    def wait():
        waits.append(1)
        if len(waits) == 1:
            server.path.rename(server.path.with_name("access.log.1"))
            server.path.write_text(line(5))
        if len(waits) == 2:
            with server.path.with_name("access.log.1").open("a") as file:
                file.write(line(3) + line(4))
        if len(waits) > 2:
            clock[0] += 2 * follow.GRACE
        return len(seen(engine)) < 6 and len(waits) < 100

    read(engine, server, wait=wait)
    assert seen(engine) == list(range(6))


def test_a_broken_line_is_quarantined_once_with_its_place(engine, server):
    server.write(1)
    with server.path.open("ab") as file:
        file.write(b"torn \xff\r line\n")
    server.write(1)
    for _ in range(2):
        read(engine, server)
    (row,) = held(engine, 9)
    assert json.loads(row.body)["offset"] == len(line(0))
    assert seen(engine) == [0, 1]


def test_a_line_without_an_end_does_not_fill_the_memory(engine, server):
    server.path.write_bytes(b"x" * (3 * AT_ONCE) + b"\n")
    server.write(1)
    read(engine, server)
    assert seen(engine) == [0]
    assert all(len(row.body) < 2 * AT_ONCE + 1000 for row in held(engine, 9))


def test_a_file_that_is_gone_is_said_and_the_rest_is_read(engine, server, caplog):
    server.write(3)
    read(engine, server)
    server.path.write_text(line(7) * 2)
    server.written = 8
    read(engine, server)
    assert "is gone" in caplog.text
    assert seen(engine) == [0, 1, 2, 7]


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(DatasetError, match="no log"):
        FollowedLog(tmp_path / "nothing.log")


FOLLOW = "import sys; from recloop.cli import app; app(['follow', sys.argv[1]])"


@pytest.mark.slow
def test_kills_lose_and_double_nothing(tmp_path, monkeypatch):
    server, luck = Server(tmp_path / "access.log"), random.Random(1)
    env = os.environ | {"RECLOOP_HOME": str(tmp_path / "home")}
    engine = open_store(f"sqlite:///{tmp_path}/home/store.db")
    for kill in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(server.path)], env=env, stderr=subprocess.DEVNULL
        )
        for _ in range(luck.randrange(5, 15)):
            server.write(luck.randrange(3000))
            if luck.random() < 0.3:
                server.rotate(luck.choice(["rename", "gzip", "copy"]))
            time.sleep(luck.random() * 0.1)
        end = time.monotonic() + 30
        while kill < 2 and len(seen(engine)) < server.written / 3 and time.monotonic() < end:
            time.sleep(0.01)
        if kill < 2:
            child.kill()
            child.wait()
    end = time.monotonic() + 200
    while len(seen(engine)) < server.written and time.monotonic() < end:
        time.sleep(0.1)
    child.terminate()
    assert child.wait(60) == 0
    assert seen(engine) == list(range(server.written))
    with engine.connect() as connection:
        assert (
            connection.execute(select(func.count(func.distinct(events.c.event_id)))).scalar_one()
            == server.written
        )
