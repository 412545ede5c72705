"""Personal data opens for its person and field only, under any key that is held, never after an erasure."""

import base64
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update

from recloop.settings import places
from recloop.store import StoreError, open_store
from recloop.store.keys import KeyFile, LocalKeys, master_keys, parse_keys
from recloop.store.personal import open_personal, seal_personal
from recloop.store.tables import persons
from recloop.store.vault import AT_ONCE, Vault, open_vault, person_keys


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys")


@pytest.fixture
def vault(new_store, file):
    return Vault(new_store(), LocalKeys(file))


def test_personal_data_comes_back_and_stands_nowhere_in_clear(engine, vault, tmp_path):
    seal_personal(engine, vault, "u", {"email": "minji@example.com", "name": "민지"})
    assert open_personal(engine, vault, "u") == {"email": "minji@example.com", "name": "민지"}
    seal_personal(engine, vault, "u", {"email": "new@example.com"})
    assert open_personal(engine, vault, "u") == {"email": "new@example.com", "name": "민지"}
    assert open_personal(engine, vault, "v") == {}
    key = vault.key("u")
    for path in tmp_path.iterdir():
        for secret in (b"minji", b"new@example", "민지".encode(), key):
            assert secret not in path.read_bytes(), path
    assert os.stat(tmp_path / "keys").st_mode & 0o777 == 0o600


def test_a_ciphertext_of_another_person_or_field_is_refused(engine, vault):
    for user in "uv":
        seal_personal(engine, vault, user, {"email": f"{user}@example.com", "name": user})
    with engine.connect() as connection:
        sealed = {(row.user_id, row.field): row.sealed for row in connection.execute(persons.select())}
    for source in (("v", "email"), ("u", "name")):
        put(engine, "u", "email", sealed[source])
        with pytest.raises(StoreError, match="'email' does not open"):
            open_personal(engine, vault, "u")
    put(engine, "u", "email", sealed["u", "email"])
    assert open_personal(engine, vault, "u")["email"] == "u@example.com"


def put(engine, user, field, sealed):
    here = (persons.c.user_id == user) & (persons.c.field == field)
    with engine.begin() as connection:
        connection.execute(update(persons).where(here).values(sealed=sealed))


def test_every_altered_byte_is_seen(engine, vault):
    seal_personal(engine, vault, "u", {"email": "a@b"})
    with engine.connect() as connection:
        whole = connection.execute(persons.select()).one().sealed
    for place in range(len(whole)):
        put(engine, "u", "email", whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match="does not open"):
            open_personal(engine, vault, "u")
    for cut in (b"", whole[:11], whole[:-1]):
        put(engine, "u", "email", cut)
        with pytest.raises(StoreError, match="does not open"):
            open_personal(engine, vault, "u")


def test_a_person_s_key_serves_no_other_person(engine, vault):
    for user in "uv":
        seal_personal(engine, vault, user, {"email": user})
    with vault.engine.begin() as connection:
        other = connection.execute(person_keys.select().where(person_keys.c.user_id == "v")).one().wrapped
        connection.execute(update(person_keys).where(person_keys.c.user_id == "u").values(wrapped=other))
    with pytest.raises(StoreError, match="altered, or another person's"):
        open_personal(engine, vault, "u")


def test_the_same_value_is_never_sealed_alike(engine, vault):
    seal_personal(engine, vault, "u", {"a": "x", "b": "x"})
    with engine.connect() as connection:
        one, two = (row.sealed for row in connection.execute(persons.select()))
    assert one[:12] != two[:12]
    assert one[12:] != two[12:]


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200), st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True))
def test_any_text_of_anybody_comes_back(tmp_path_factory, value, user):
    home = tmp_path_factory.mktemp("any")
    engine = open_store(f"sqlite:///{home}/s.db")
    vault = Vault(f"sqlite:///{home}/v.db", LocalKeys(KeyFile(home / "keys")))
    seal_personal(engine, vault, user, {"note": value})
    assert open_personal(engine, vault, user) == {"note": value}


def test_a_new_key_is_on_disk_by_its_name_before_anything_is_wrapped_under_it(file, tmp_path, monkeypatch):
    settled, fsync = [], os.fsync

    def noted(handle):
        target = Path(os.readlink(f"/proc/self/fd/{handle}"))
        settled.append((target.is_dir(), list(file()) if target.is_dir() else None))
        fsync(handle)

    file()
    monkeypatch.setattr(os, "fsync", noted)
    assert file.add() == "v2"
    assert settled == [(False, None), (True, ["v1", "v2"])], "the content first, then the folder"


def test_rotation_rewraps_goes_on_after_a_stop_and_lets_the_old_key_go(engine, vault, file, monkeypatch):
    people = [f"u{n:03}" for n in range(AT_ONCE + 50)]
    for user in people:
        vault.make_key(user)
    seal_personal(engine, vault, "u000", {"email": "a"})
    before = vault.key("u000")
    assert vault.held() == {"v1": len(people)}
    assert file.add() == "v2"
    assert open_personal(engine, vault, "u000") == {"email": "a"}, "before anything was rewrapped"
    unwrap, count = vault.keys.unwrap, iter(range(AT_ONCE + 10))

    def stopped(*words):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return unwrap(*words)

    monkeypatch.setattr(vault.keys, "unwrap", stopped)
    with pytest.raises(KeyboardInterrupt):
        vault.rewrap(progress=False)
    monkeypatch.undo()
    assert vault.held() == {"v1": 50, "v2": AT_ONCE}
    assert vault.rewrap(progress=False) == 50
    assert vault.rewrap(progress=False) == 0
    assert vault.held() == {"v2": len(people)}
    assert vault.key("u000") == before, "the person's own key stays"
    file.remove("v1")
    assert open_personal(engine, vault, "u000") == {"email": "a"}


def test_a_key_that_is_still_needed_is_missed_by_name(engine, vault, file):
    seal_personal(engine, vault, "u", {"email": "a"})
    file.add()
    file.remove("v1")
    with pytest.raises(StoreError, match=r"no master key 'v1'.*recloop key rotate"):
        open_personal(engine, vault, "u")
    with pytest.raises(StoreError, match="is the current key"):
        file.remove("v2")


def test_who_is_erased_during_a_rotation_stays_erased(vault, file, monkeypatch):
    vault.make_key("u")
    file.add()
    wrap = vault.keys.wrap

    def meanwhile(*words):
        vault.destroy_key("u")
        return wrap(*words)

    monkeypatch.setattr(vault.keys, "wrap", meanwhile)
    assert vault.rewrap(progress=False) == 0
    assert vault.key("u") is None


def test_a_destroyed_key_opens_nothing_also_from_a_backup_of_the_store(engine, vault):
    seal_personal(engine, vault, "u", {"email": "a"})
    assert vault.destroy_key("u") == 1
    with pytest.raises(StoreError, match="the person's key is gone"):
        open_personal(engine, vault, "u")
    vault.make_key("u")
    with pytest.raises(StoreError, match="does not open"):
        open_personal(engine, vault, "u")


def test_of_many_who_make_a_key_at_once_all_have_the_same(vault):
    gate, found = threading.Barrier(6), []

    def make():
        gate.wait()
        found.append((vault.make_key("u"), vault.pseudonym("kim", make=True)))

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_pseudonym_says_nothing_of_its_account(vault):
    assert vault.pseudonym("kim.minji") is None
    first = vault.pseudonym("kim.minji", make=True)
    assert vault.pseudonym("kim.minji", make=True) == first
    assert "kim" not in first
    assert vault.accounts([first, "p-other"]) == {first: "kim.minji"}
    assert vault.forget_account(first) == 1
    assert vault.pseudonym("kim.minji", make=True) != first, "nothing of it follows from the account"


def test_what_is_destroyed_leaves_no_bytes_in_the_vault_s_files(tmp_path, file):
    vault = Vault(f"sqlite:///{tmp_path}/v.db", LocalKeys(file))
    user = vault.pseudonym("kim.minji", make=True)
    vault.make_key(user)
    assert any(user.encode() in path.read_bytes() for path in tmp_path.glob("v.db*"))
    vault.destroy_key(user)
    vault.forget_account(user)
    for path in tmp_path.glob("v.db*"):
        assert user.encode() not in path.read_bytes(), path
        assert b"kim.minji" not in path.read_bytes(), path


class Service:
    """A key management service, which keeps its keys to itself."""

    def __init__(self):
        self.versions, self.asked = {"arn:key/1": os.urandom(32)}, 0

    current = "kms-1"

    def wrap(self, key, bound):
        self.asked += 1
        return self.current, LocalKeys(lambda: {"k": self.versions["arn:key/1"]}).wrap(key, bound)[1]

    def unwrap(self, version, wrapped, bound):
        self.asked += 1
        return LocalKeys(lambda: {version: self.versions["arn:key/1"]}).unwrap(version, wrapped, bound)


SERVICE = Service()


def service():
    return SERVICE


def test_keys_come_from_a_file_the_environment_or_a_service(tmp_path, monkeypatch):
    one, two = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    assert master_keys(places()).current == "v1"
    monkeypatch.setenv("RECLOOP_MASTER_KEYS", f"a:{one} b:{two}")
    assert master_keys(places()).current == "b"
    engine, vault = open_store(places().store), open_vault(places())
    seal_personal(engine, vault, "u", {"email": "a"})
    monkeypatch.setenv("RECLOOP_MASTER_KEYS", f"b:{two}")
    assert open_personal(engine, open_vault(places()), "u") == {"email": "a"}
    monkeypatch.setenv("RECLOOP_MASTER_KEYS", f"b:{one}")
    with pytest.raises(StoreError, match="does not open"):
        open_personal(engine, open_vault(places()), "u")
    monkeypatch.setenv("RECLOOP_KMS", "tests.store.test_personal:service")
    assert open_vault(places()).keys.current == "kms-1"
    monkeypatch.setenv("RECLOOP_KMS", "tests.store.test_personal:nothing")
    with pytest.raises(StoreError, match="MODULE:FUNCTION"):
        open_vault(places())


def test_a_service_wraps_and_the_vault_rotates_to_it(tmp_path, vault, file):
    key = vault.make_key("u")
    moved = Vault(str(vault.engine.url.render_as_string(hide_password=False)), Both(vault.keys, SERVICE))
    assert moved.rewrap(progress=False) == 1
    assert SERVICE.asked > 0
    assert moved.held() == {"kms-1": 1}
    moved.keys = SERVICE
    assert moved.key("u") == key


class Both:
    """From one source of master keys to another."""

    def __init__(self, old, new):
        self.old, self.new, self.current = old, new, new.current
        self.wrap = new.wrap

    def unwrap(self, version, wrapped, bound):
        return (self.new if version == self.current else self.old).unwrap(version, wrapped, bound)


@pytest.mark.parametrize("content", ["", "v1", "v1:c2hvcnQ=", "v1:{k} v1:{k}", "a b:{k}", "v1:{k}x", "/:{k}"])
def test_a_key_file_that_is_torn_is_refused_and_stays_as_it_is(tmp_path, content):
    text_ = content.replace("{k}", base64.b64encode(bytes(32)).decode())
    (tmp_path / "keys").write_text(text_)
    with pytest.raises(StoreError, match="restore it from its backup"):
        KeyFile(tmp_path / "keys")()
    assert (tmp_path / "keys").read_text() == text_


def test_a_lost_key_file_is_not_replaced_where_keys_are_held(tmp_path):
    open_vault(places()).make_key("u")
    places().keys.unlink()
    with pytest.raises(StoreError, match="is gone: restore it"):
        open_vault(places())


def test_a_vault_of_a_store_on_a_server_must_be_named(monkeypatch):
    monkeypatch.setenv("RECLOOP_STORE_URL", "postgresql://somewhere/db")
    with pytest.raises(StoreError, match="RECLOOP_VAULT_URL must say"):
        open_vault(places())


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "v.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        Vault(f"sqlite:///{tmp_path}/v.db", LocalKeys(lambda: {"v1": bytes(32)}))


def test_parsing_keeps_the_order():
    keys = parse_keys(" ".join(f"{n}:{base64.b64encode(bytes(32)).decode()}" for n in "zab"), "here")
    assert list(keys) == ["z", "a", "b"]


def test_sqlite_overwrites_what_is_deleted(engine):
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA secure_delete")).scalar() == 1
        assert sqlite3.sqlite_version_info >= (3, 35)
