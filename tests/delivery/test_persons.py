"""At the door: without consent nothing is stored and nobody is looked at; a person may ask, and be erased."""

import json

import pytest
from sqlalchemy import func, select

from recloop.delivery import Target, rollout
from recloop.delivery.following import EVERY
from recloop.delivery.why import TEXTS, Shown, sentences
from recloop.intake import import_into
from recloop.intake.feedback import identity
from recloop.intake.files import EventTable
from recloop.intake.server_log import ServerLog
from recloop.schema import now_us
from recloop.store import Refused, open_store, set_consent, set_consents
from recloop.store.consent import PURPOSES
from recloop.store.erasure import finish
from recloop.store.quarantine import held, hold
from recloop.store.tables import (
    accesses,
    events,
    exposures,
    impressions,
    metadata,
    persons,
    quarantine,
    users,
)
from recloop.store.vault import open_vault
from tests.delivery.live import TOKEN, Live, until
from tests.delivery.standin import Standin

OPERATOR = {"authorization": f"Bearer {TOKEN}"}
STORED = (users, impressions, events, exposures, quarantine, persons)


@pytest.fixture(scope="module")
def slot():
    with Standin("old") as slot:
        yield slot


def gateway(folder, slot, **settings):
    """A gateway that asks for consent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLOOP_CONSENT", "required")
        for name, value in settings.items():
            patch.setenv(f"RECLOOP_{name.upper()}", value)
        live = Live(folder)
    rollout.install(live.engine, "blue", Target(slot.url, "old"), "test", "first")
    return live


@pytest.fixture(scope="module")
def live(tmp_path_factory, slot):
    with gateway(tmp_path_factory.mktemp("home"), slot) as live:
        yield live


@pytest.fixture(scope="module")
def accounts(tmp_path_factory, slot):
    """A gateway whose requests speak of accounts."""
    with gateway(tmp_path_factory.mktemp("accounts"), slot, accounts="true") as live:
        yield live


def rows(live, word=""):
    """Of the tables that hold what people are and do, those rows that hold the word."""
    with live.engine.connect() as connection:
        found = {t.name: connection.execute(select(t)).all() for t in STORED}
    return sum(word in str(tuple(row)) for kept in found.values() for row in kept)


def post(live, path, **body):
    return live.client.post(f"/person/{path}", json=body, headers=OPERATOR)


def agree(live, user, *purposes):
    answer = post(live, "consents", user_id=user, consents=dict.fromkeys(purposes, True))
    assert answer.status_code == 200, answer.text
    return answer.json()


def click(live, user, slate, **more):
    act = {"user_id": user, "item_id": slate["items"][0], "kind": "click", "request_id": slate["request_id"]}
    return live.client.post("/feedback", json=act | more)


def unconsented(live):
    name = 'recloop_events_total{outcome="unconsented"} '
    return float(live.client.get("/metrics").text.partition(name)[2].partition("\n")[0] or 0)


def test_without_a_word_nothing_is_stored_and_the_slot_sees_a_stranger(live, slot):
    before, counted = rows(live), unconsented(live)
    slate = live.ask("silent", k=3).json()
    assert (slate["policy"], slate["fallback"], len(slate["items"])) == ("old", False, 3), "the policy serves"
    assert slot.seen()[-1].startswith("anon.")
    assert click(live, "silent", slate).json()["accepted"] == 0
    assert click(live, "silent", slate, kind="stare").status_code == 422
    batch = [{"user_id": "silent", "item_id": "i1", "kind": "click"}, {"user_id": "silent", "kind": "stare"}]
    assert live.client.post("/events", json=batch).json()["accepted"] == 0
    assert live.client.post("/events", json=batch[:1] * 5001).status_code == 413
    assert json.loads(held(live.engine, 1)[0].body) == {"text": "[]"}
    before += 1
    profile = [{"user_id": "silent", "kind": "signup", "answers": {"age": 30}}]
    assert live.client.post("/profiles", json=profile).json()["field"] == "user_id"
    assert rows(live) == before
    assert rows(live, "silent") == 0
    assert unconsented(live) == counted + 2


@pytest.mark.parametrize(
    ("purposes", "kept", "personal"),
    [
        (("service",), True, False),
        (("service", "personalisation"), True, True),
        (("personalisation",), False, False),
        (("training", "marketing"), False, False),
    ],
)
def test_each_purpose_allows_what_it_names(live, slot, purposes, kept, personal):
    user = f"person-{'-'.join(purposes)}"
    agree(live, user, *purposes)
    slate = live.ask(user).json()
    assert (slot.seen()[-1] == user) == personal
    assert click(live, user, slate).json()["accepted"] == int(kept)
    assert (rows(live, f"'{user}'") > 0) == kept


def test_a_withdrawal_holds_for_the_next_request_and_elsewhere_within_a_second(live, slot):
    agree(live, "fickle", "service", "personalisation")
    slate = live.ask("fickle").json()
    stored = rows(live, "fickle")
    post(live, "consents", user_id="fickle", consents={"service": False})
    assert click(live, "fickle", slate).json()["accepted"] == 0
    live.ask("fickle")
    assert slot.seen()[-1].startswith("anon.")
    assert rows(live, "fickle") == stored
    set_consent(live.engine, "fickle", "service", True)  # as another gateway, or the command, writes it
    until(lambda: live.ask("fickle").json() and slot.seen()[-1] == "fickle")
    assert EVERY < 1, "seconds between two looks at consents"


def word(who, purpose="service", granted=True, **more):
    return {"user_id": who, "purpose": purpose, "granted": granted, **more}


def test_many_words_are_recorded_at_once_and_bad_ones_named(live):
    def bring(rows, headers=OPERATOR):
        return live.client.post("/person/import-consents", json=rows, headers=headers)

    def held():
        with live.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(quarantine)).scalar_one()

    assert not visited(live, "many-1")
    before = held()
    rows = [
        word("many-1"),
        word("many-2", "everything"),
        word("many-3", version=99),
        "no word",
        word("many-4"),
    ]
    first, again = bring(rows), bring(rows)
    assert (first.status_code, first.json()["new"], again.json()["new"], again.json()["same"]) == (
        200,
        2,
        0,
        2,
    )
    assert [(one["row"], one["field"]) for one in first.json()["refused"]] == [
        (1, "purpose"), (2, "version"), (3, "row")
    ]  # fmt: skip
    assert first.json()["refused"] == again.json()["refused"]
    assert held() == before + 3, "again adds nothing"
    assert visited(live, "many-1"), "the door hears it at once"
    assert bring([word("many-1", granted=False, ts=1)]).json()["refused"][0]["reason"].startswith("ts: older")
    assert visited(live, "many-1"), "no older word undoes a newer one"
    assert bring([word("many-1", granted=False)]).json()["new"] == 1
    assert not visited(live, "many-1")
    with live.engine.connect() as connection:
        noted = select(func.count()).where(accesses.c.what == "consents", accesses.c.user_id == "many-4")
        assert connection.execute(noted).scalar_one() == 1
    assert bring([word("x")] * 5001).status_code == 413
    assert bring([word("x" * 64)] * 5000 + [{"padding": "x" * 2**20}]).status_code == 413
    assert bring({"user_id": "x"}).status_code == 422
    assert bring([word("x")], {}).status_code == 401, "on loopback too"


def test_many_words_of_accounts_are_kept_under_pseudonyms(accounts):
    rows = [word("acc-yes"), word("acc-no", granted=False), word("acc-bad", "everything")]
    said = accounts.client.post("/person/import-consents", json=rows, headers=OPERATOR).json()
    assert (said["new"], said["same"], len(said["refused"])) == (1, 1, 1)
    assert visited(accounts, "acc-yes")
    assert rows_of_all(accounts, "acc-") == 0


def visited(live, who):
    """Whether a slate that the person asks for now is stored."""
    asked = live.client.post("/recommend", json={"user_id": who, "k": 1}).json()["request_id"]
    with live.engine.connect() as connection:
        query = select(func.count()).where(impressions.c.request_id == asked)
        return bool(connection.execute(query).scalar_one())


def rows_of_all(live, text):
    """Rows of the whole store that hold the text."""
    with live.engine.connect() as connection:
        found = [connection.execute(select(table)).all() for table in metadata.sorted_tables]
    return sum(text in str(tuple(row)) for kept in found for row in kept)


def test_consents_are_told_with_their_versions(live):
    found = agree(live, "asks", "service", "training")
    assert found["allowed"] == ["service", "training"]
    assert found["words"]["training"]["granted"] is True
    assert found["words"]["training"]["version"] == found["terms"]["training"] == 1
    assert post(live, "consents", user_id="nobody").json()["words"] == {}
    wrong = post(live, "consents", user_id="asks", consents={"everything": True})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "consents.everything")


def test_a_consent_to_older_terms_stores_nothing_more(tmp_path, slot):
    live = gateway(tmp_path, slot)
    set_consents(live.engine, "old", dict.fromkeys(PURPOSES, True))
    privacy = live.params.privacy.model_copy(
        update={"terms": live.params.privacy.terms.model_copy(update={"service": 2})}
    )
    live.params = live.params.model_copy(update={"privacy": privacy})
    with live:
        live.ask("old")
        assert rows(live, "'old'") == 0
        agree(live, "old", "service")
        live.ask("old")
        assert rows(live, "'old'") > 0


def test_a_store_that_cannot_be_read_loses_no_act(tmp_path, slot):
    with gateway(tmp_path, slot) as live:
        with live.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE consents RENAME TO lost")
        slate = live.ask("somebody")
        assert slate.status_code == 200, "who cannot be known is served as a stranger"
        assert click(live, "somebody", slate.json()).status_code == 503


def test_personal_data_is_sealed_exported_and_noted(live):
    assert post(live, "data", user_id="refuses", fields={"email": "r@example.com"}).status_code == 409
    agree(live, "gives", "service", "personalisation")
    assert post(live, "data", user_id="gives", fields={"email": "g@example.com"}).json() == {
        "fields": ["email"]
    }
    slate = live.ask("gives").json()
    click(live, "gives", slate)
    click(live, "gives", slate, kind="stare")
    with live.engine.begin() as connection:
        line = {"file": "a", "line": 1, "text": "GET /items/x?uid=gives"}
        theirs = [{"user_id": "other", "text": "gives"}, {"text": "gives and other, unreadable"}]
        hold(
            connection,
            [Refused("own", "log", "", line), *(Refused("http", "event", "", one) for one in theirs)],
        )
    found = post(live, "export", user_id="gives").json()
    assert [json.loads(row["body"]).get("kind", row["kind"]) for row in found["refused"]] == ["stare", "log"]
    assert found["personal"] == {"email": "g@example.com"}
    assert [row["request_id"] for row in found["events"]] == [slate["request_id"]]
    assert {row["purpose"] for row in found["consents"]} == {"service", "personalisation"}
    assert len(found["impressions"]) == len(slate["items"])
    assert rows(live, "g@example.com") == 0, "sealed"
    with live.engine.connect() as connection:
        noted = connection.execute(
            select(accesses.c.who, accesses.c.what).where(accesses.c.user_id == "gives")
        )
        assert [tuple(row) for row in noted] == [
            ("environment", "consents"), ("environment", "store data"), ("environment", "export"),
        ]  # fmt: skip


def test_an_erasure_stops_all_use_at_once_and_gives_a_receipt(live, slot):
    agree(live, "leaves", "service", "personalisation", "training")
    post(live, "data", user_id="leaves", fields={"email": "l@example.com"})
    click(live, "leaves", live.ask("leaves").json())
    answer = post(live, "erase", user_id="leaves")
    assert answer.status_code == 202
    assert answer.json()["done"] is None
    assert answer.json()["counts"]["persons"] == answer.json()["counts"]["keys"] == 1
    assert rows(live, "leaves") == 0
    live.ask("leaves")
    assert slot.seen()[-1].startswith("anon.")
    assert rows(live, "leaves") == 0
    assert post(live, "erase", user_id="leaves").json()["receipt"] == answer.json()["receipt"]


def test_of_accounts_only_pseudonyms_come_behind_the_door(accounts, slot):
    live = accounts
    assert live.ask("kim.minji").status_code == 200
    assert post(live, "erase", user_id="kim.minji").status_code == 404
    vault = open_vault(live.places)
    assert vault.pseudonym("kim.minji") is None, "who has not agreed gets no pseudonym either"
    agree(live, "kim.minji", "service", "personalisation")
    pseudonym = vault.pseudonym("kim.minji")
    assert pseudonym.startswith("p-")
    slate = live.ask("kim.minji").json()
    assert slot.seen()[-1] == pseudonym
    assert click(live, "kim.minji", slate).json()["accepted"] == 1
    click(live, "kim.minji", slate, kind="stare")
    assert rows(live, pseudonym) > 2
    assert rows(live, "kim.minji") == 0
    for file in live.places.home.glob("store.db*"):
        assert b"kim.minji" not in file.read_bytes()
    assert post(live, "export", user_id="kim.minji").json()["account"] == "kim.minji"


def test_an_account_that_comes_back_after_its_erasure_is_somebody_new(accounts):
    engine, vault = accounts.engine, open_vault(accounts.places)
    agree(accounts, "park.jun", "service")
    slate = accounts.ask("park.jun").json()
    old = vault.pseudonym("park.jun")
    receipt = post(accounts, "erase", user_id="park.jun").json()["receipt"]
    assert click(accounts, "park.jun", slate).json()["accepted"] == 0
    finish(engine, vault, receipt, old)
    assert click(accounts, "park.jun", slate).json()["accepted"] == 0
    agree(accounts, "park.jun", "service")
    assert click(accounts, "park.jun", slate).json()["accepted"] == 1
    assert rows(accounts, old) == 0
    assert rows(accounts, vault.pseudonym("park.jun")) == 1


def test_an_id_that_is_made_from_an_act_does_not_tell_the_account(accounts):
    agree(accounts, "lee.sora", "service")
    act = {"user_id": "lee.sora", "item_id": "i1", "kind": "click", "ts": now_us() - 9}
    first, again = (accounts.client.post("/events", json=[act]).json() for _ in range(2))
    assert (first["rows"], again["rows"]) == (["new"], ["repeated"])
    with accounts.engine.connect() as connection:
        found = connection.execute(select(events.c.event_id).where(events.c.ts == act["ts"])).scalar_one()
    assert found != identity(act)
    assert found == identity(act | {"user_id": open_vault(accounts.places).pseudonym("lee.sora")})
    assert accounts.client.post("/feedback", json=act).json() == {"accepted": 0, "event_id": found}


def test_an_act_that_came_over_http_is_known_when_its_file_is_imported(accounts, tmp_path):
    agree(accounts, "choi.yuna", "service")
    act = {"user_id": "choi.yuna", "item_id": "i1", "kind": "click", "ts": now_us() - 9}
    assert accounts.client.post("/events", json=[act]).json()["rows"] == ["new"]
    (tmp_path / "acts.jsonl").write_text(json.dumps(act))
    name = open_vault(accounts.places).behind_the_door
    for source in (EventTable(tmp_path / "acts.jsonl"), ServerLog(tmp_path / "acts.jsonl")):
        assert import_into(accounts.engine, source, progress=False, name=name).added["events"] == 0


def test_why_is_told_in_both_languages(live):
    agree(live, "curious", "service", "personalisation")
    first = live.ask("curious").json()
    click(live, "curious", first)
    second = live.ask("curious").json()
    for language, word in (("en", "Title <b>0</b>"), ("ko", "전에")):
        asked = {"user_id": "curious", "request_id": second["request_id"], "item_id": second["items"][1]}
        said = post(live, "why", **asked, language=language).json()["why"]
        assert "old" in said[0]
        assert any(word in sentence for sentence in said), said
    other = post(live, "why", user_id="other", request_id=second["request_id"], item_id=second["items"][1])
    assert other.json()["why"] == [TEXTS["en"]["unknown"]], "another person's answer is not told"
    wrong = post(live, "why", **asked, language="de")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "language")


def shown(**changes):
    given = {"policy": "p", "propensity": 0.5, "items": 10, "category": "art", "past": [], "personal": True}
    return Shown(**given | changes)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_sentences_say_what_went_in(language):
    text = TEXTS[language]
    assert sentences(shown(policy="fallback"), language) == [text["fallback"], text["stranger"]]
    assert text["stranger"] in sentences(shown(personal=False, past=[("x", "art")]), language)
    assert not any(word == "x" for word in " ".join(sentences(shown(personal=False), language)).split())
    alike = sentences(shown(past=[("Vase", "art"), ("Flute", "music")]), language)
    assert any("Vase" in s and "Flute" not in s for s in alike)
    apart = sentences(shown(past=[("Flute", "music")]), language)
    assert any("Flute" in s and "art" in s for s in apart)
    assert text["new"] in sentences(shown(), language)
    assert any("50 %" in s for s in sentences(shown(), language))
    lot = sentences(shown(propensity=0.01), language)
    assert len(lot) == len(sentences(shown(), language)) + 1
    assert "10 %" in lot[-1]
    assert len(sentences(shown(propensity=None), language)) == len(sentences(shown(), language)) - 1


def test_what_is_asked_of_a_person_needs_its_own_scope(live):
    agree(live, "noted", "service")
    for path in ("data", "export", "erase", "why"):
        assert live.client.post(f"/person/{path}", json={"user_id": "u"}).status_code == 401
    with open_store(live.places.store).connect() as connection:
        assert connection.execute(select(func.count()).select_from(accesses)).scalar() > 0
    assert json.loads(live.client.get("/openapi.json").text)["paths"]["/person/erase"]
