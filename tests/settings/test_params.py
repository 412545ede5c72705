"""params.yaml is read as it is meant, or refused by the name of the entry."""

from pathlib import Path

import pytest

from recloop.settings import ParamsError, load_params, places

ROOT = Path(__file__).parents[2]


def test_the_shipped_params_are_valid():
    assert load_params(ROOT / "params.yaml").agent.algorithm == "slateq"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("gamma: 0.95", "gamma: 1.5", "agent.gamma"),
        ("gamma: 0.95", "gama: 0.95", "agent.gama"),
        ("algorithm: slateq", "algorithm: magic", "agent.algorithm"),
        ("users: 1200", "users: many", "market.users"),
        ("canary_share: 0.3", "canary_share: .nan", "delivery.canary_share"),
        ("shadow_share: 0.2 ", "shadow_share: 0.0 ", "shadow_requests never come"),
        ("ab_share: 0.0", "ab_share: 0.3", "ab_share must be above canary_share"),
        ("ab_share: 0.0", "ab_share: 1.0", "below 1"),
        ("ages: [0, 120]", "ages: [120, 0]", "features: .*least and the greatest"),
        ("    components: 0", "    components: 4", "features.text: .*raise columns"),
        ("zone: UTC", "zone: Asia/Soul", "watch.zone: .*no time zone"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, old, new, named):
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(ParamsError, match=named):
        load_params(tmp_path / "params.yaml")


def test_a_missing_or_torn_file_says_what_to_do(tmp_path):
    with pytest.raises(ParamsError, match="restore it with git"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("market: {users: [1")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_the_environment_s_terms_stand_before_those_of_the_file(monkeypatch):
    shipped = load_params(ROOT / "params.yaml").privacy
    monkeypatch.setenv("RECLOOP_TERMS", '{"service": 7}')
    found = load_params(ROOT / "params.yaml").privacy
    assert found.terms.model_dump() == shipped.terms.model_dump() | {"service": 7}
    assert found.keep_days == shipped.keep_days
    monkeypatch.setenv("RECLOOP_TERMS", '{"survice": 7}')
    with pytest.raises(ParamsError, match="survice"):
        load_params(ROOT / "params.yaml")


def test_places_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path / "here"))
    monkeypatch.setenv("RECLOOP_TOKEN", "s3cret")
    found = places()
    assert found.store == f"sqlite:///{tmp_path}/here/store.db"
    assert found.home.is_dir()
    assert found.host == "127.0.0.1"
    assert "s3cret" not in repr(found)
