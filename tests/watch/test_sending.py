"""What arrives at people's: by e-mail at a real SMTP server, and what Slack's and Discord's webhooks get."""

import email
import email.policy
import http.server
import json
import threading

import pytest
from aiosmtpd.controller import Controller
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.slack import NotifySlack

from recloop.delivery.processes import free_port
from recloop.store import open_store
from recloop.watch import Alert, NotifyError, notify
from recloop.watch.sending import send

NOW = 500_000 * 3_600_000_000
LABELS = {"slot": "blue", "policy": "dqn_v2"}
FAILS = Alert(
    "SlotFails policy=dqn_v2 slot=blue", "critical", "slot blue (dqn_v2) fails 12% of its requests",
    {"value": 0.12}, "serving", labels=LABELS,
)  # fmt: skip
SLOW = Alert(
    "SlotBlind policy=dqn_v2 slot=blue", "critical",
    "slot blue (dqn_v2) cannot read the history of 30% of the people", {"value": 0.3}, "serving",
    labels=LABELS,
)  # fmt: skip
MANY = [
    Alert(f"Drift feature=f{n}", "warning", f"f{n} is <far> & away: `recloop status` {'x' * 120}", {})
    for n in range(25)
]


class Box:
    """Keeps what an SMTP server is given."""

    def __init__(self):
        self.got = []

    async def handle_DATA(self, server, session, envelope):
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.got.append((envelope.rcpt_tos, found))
        return "250 OK"


@pytest.fixture
def mail():
    """The address of a real server, and the letters that it got."""
    box = Box()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    yield f"mailto://127.0.0.1:{server.port}?from=recloop@example.com&to=team@example.com", box.got
    server.stop()


@pytest.mark.parametrize(
    ("language", "lines", "over"),
    [
        (
            "en",
            [
                "critical: slot blue (dqn_v2) fails 12% of its requests",
                "docs/runbooks/SlotFails.md",
                "critical: slot blue (dqn_v2) cannot read the history of 30% of the people",
                "docs/runbooks/SlotBlind.md",
            ],
            ("recloop: SlotBlind, SlotFails (over)", "all of this is over:"),
        ),
        (
            "ko",
            [
                "심각: 슬롯 blue(dqn_v2)이 요청의 12%에 실패합니다",
                "docs/runbooks/SlotFails.md",
                "심각: 슬롯 blue(dqn_v2)이 이용자 30%의 기록을 읽지 못해 처음 온 사람으로 대합니다",
                "docs/runbooks/SlotBlind.md",
            ],
            ("recloop: SlotBlind, SlotFails (해소)", "다음은 모두 해소되었습니다:"),
        ),
    ],
)
def test_an_e_mail_has_the_group_in_the_language_of_the_team(
    tmp_path, monkeypatch, mail, language, lines, over
):
    url, got = mail
    monkeypatch.setenv("RECLOOP_ALERT_LANGUAGE", language)
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    assert notify(engine, [FAILS, SLOW], [url], now=NOW) == [FAILS, SLOW]
    notify(engine, [], [url], now=NOW + 1)
    (to, letter), (_, last) = got
    assert to == ["team@example.com"]
    assert (letter["from"], letter["to"]) == ("recloop@example.com", "team@example.com")
    assert letter["subject"] == "recloop: SlotFails, SlotBlind"
    assert (letter.get_content_type(), letter.get_content_charset()) == ("text/plain", "utf-8")
    assert [line.strip() for line in letter.get_content().splitlines()] == lines
    assert (last["subject"], last.get_content().splitlines()[0]) == over


def test_a_subject_counts_what_it_does_not_name(monkeypatch, mail):
    url, got = mail
    monkeypatch.setenv("RECLOOP_ALERT_LANGUAGE", "ko")
    send([Alert(f"A{n}", "warning", "away", {}) for n in range(22)], [url])
    assert got[0][1]["subject"] == "recloop: A0, A1, A2 외 19건"
    assert got[0][1].get_content().splitlines()[-1] == "그 밖에 2건: `recloop alert list`"


def test_a_server_that_takes_no_letter_is_a_failure(mail, monkeypatch):
    url, got = mail

    async def full(*_):
        return "452 insufficient system storage"

    monkeypatch.setattr(Box, "handle_DATA", full)
    with pytest.raises(NotifyError, match="could not be delivered"):
        send([FAILS], [url])
    assert got == []


@pytest.fixture
def posted(monkeypatch):
    """Bodies that Slack and Discord would have got; longer ones than they take are refused as they would."""
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got.append(body)
            self.send_response(400 if len(body.get("content", "")) > 2000 else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{here}/services")
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{here}/api/webhooks")
    monkeypatch.setattr(NotifyDiscord, "request_rate_per_sec", 0.0)
    monkeypatch.setattr(NotifySlack, "request_rate_per_sec", 0.0)
    yield got
    server.shutdown()
    thread.join()
    server.server_close()


def test_discord_gets_a_long_message_in_parts_that_it_takes(posted):
    send(MANY, ["discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"])
    texts = [body["content"] for body in posted]
    assert len(texts) > 1
    assert all(text.startswith("recloop: Drift [") for text in texts)
    assert all(f"f{n} is <far> & away" in "".join(texts) for n in range(20)), "nothing is cut off"
    assert "and 5 more" in texts[-1]


def test_slack_gets_one_message_with_its_three_characters_escaped(posted):
    send(MANY, ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts"])
    (body,) = posted
    (said,) = body["attachments"]
    assert (body["channel"], said["title"]) == ("#alerts", "recloop: Drift")
    lines = said["text"].splitlines()
    assert lines[0].startswith("warning: f0 is &lt;far&gt; &amp; away: `recloop status`")
    assert len(lines) == 2 * 20 + 1
