"""Tokens: only hashes are kept, what is taken away stops to work, and nothing listens unguarded."""

import json

import pytest

from recloop.settings import TokenError, Tokens, places, require_tokens
from recloop.settings.tokens import FEEDBACK, READ, SCOPES, add_token, read_grants, remove_token


def test_a_token_is_seen_once_and_kept_as_a_hash_for_its_owner_only(tmp_path):
    file = tmp_path / "tokens.json"
    token = add_token(file, "shop", [READ, FEEDBACK])
    assert len(token) > 40
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.json"]
    grant = Tokens({}, file).grant_of(token)
    assert (grant.name, grant.scopes) == ("shop", (READ, FEEDBACK))
    assert Tokens({}, file).grant_of(grant.sha256) is None, "the hash is no token"
    for other in ("", token[:-1], token + "x", "ünknown \ud800"):
        assert Tokens({}, file).grant_of(other) is None


def test_what_is_added_and_taken_away_holds_at_once(tmp_path):
    file = tmp_path / "tokens.json"
    tokens = Tokens({}, file)
    first, second = add_token(file, "one", [READ]), add_token(file, "two", [READ])
    assert tokens.grant_of(first).name == "one"
    remove_token(file, "one")
    assert tokens.grant_of(first) is None
    assert tokens.grant_of(second).name == "two"
    file.unlink()
    assert tokens.grant_of(second) is None


@pytest.mark.parametrize("content", ["{", "[1]", '[{"name": "x"}]', "null", "\udcff"])
def test_a_broken_file_grants_nothing_and_is_not_overwritten(tmp_path, content):
    file = tmp_path / "tokens.json"
    token = add_token(file, "one", [READ])
    tokens = Tokens({}, file)
    assert tokens.grant_of(token)
    file.write_text(content, errors="surrogateescape")
    assert tokens.grant_of(token) is None
    with pytest.raises(TokenError, match="cannot be used"):
        add_token(file, "two", [READ])
    assert file.read_text(errors="surrogateescape") == content


def test_a_scope_or_hash_that_nobody_wrote_is_refused(tmp_path):
    file = tmp_path / "tokens.json"
    add_token(file, "one", [READ])
    (row,) = json.loads(file.read_text())
    for wrong in (row | {"scopes": ["root"]}, row | {"sha256": ""}):
        file.write_text(json.dumps([wrong]))
        with pytest.raises(TokenError):
            read_grants(file)
    file.unlink()
    for name, scopes in (("one", []), ("one", ["root"]), ("a b", [READ]), ("", [READ])):
        with pytest.raises(TokenError):
            add_token(file, name, scopes)
    add_token(file, "one", [READ])
    with pytest.raises(TokenError, match="already"):
        add_token(file, "one", [READ])
    with pytest.raises(TokenError, match="no token two"):
        remove_token(file, "two")


def test_the_environment_s_tokens_have_the_scopes_that_their_names_say(tmp_path):
    found = places(home=tmp_path, token="all", read_token="same", feedback_token="same")
    assert set(found.tokens.grant_of("same").scopes) == {READ, FEEDBACK}
    assert set(found.tokens.grant_of("all").scopes) == set(SCOPES)
    assert found.tokens.grant_of("") is None
    for secret in ("'all'", "same"):
        assert secret not in repr(found)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "shop.example", ""])
def test_beyond_loopback_good_tokens_are_needed(host):
    with pytest.raises(TokenError, match="recloop token add"):
        require_tokens(host, Tokens({}))
    with pytest.raises(TokenError, match="can be guessed"):
        require_tokens(host, Tokens({"short": SCOPES}))
    require_tokens(host, Tokens({"x" * 20: SCOPES}))
    require_tokens("127.0.0.1", Tokens({}))
