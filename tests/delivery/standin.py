"""A slot as a real HTTP server that behaves as a fault demands.

``python tests/delivery/standin.py NAME`` prints its port; ``POST /mode`` with one of ``MODES`` as
the body changes how it answers from then on.
"""

import json
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODES = ("ok", "hang", "error", "html", "nan", "twice", "others", "other-policy", "unknown", "endless", "cut")


class Answers(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536  # one packet an answer
    name, mode = "", "ok"
    seen: list = []  # noqa: RUF012, one process, one server

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/mode":
            type(self).mode = body.decode()
            self.reply(b"{}")
            return
        asked = json.loads(body)
        self.seen.append(asked["user_id"])
        if self.mode == "hang":
            threading.Event().wait(30)
        if self.mode == "cut":
            self.close_connection = True
            return
        self.reply(*self.slate(asked))

    def do_GET(self):
        self.reply(json.dumps(self.seen).encode())

    def slate(self, asked):
        items = [f"i{n}" for n in range(20) if f"i{n}" not in asked["exclude"]][: asked["k"]]
        slate = {
            "request_id": self.headers["x-request-id"],
            "items": items,
            "titles": items,
            "scores": [1.0] * len(items),
            "propensities": [0.5] * len(items),
            "policy": self.name,
        }
        match self.mode:
            case "error":
                return b'{"error": "broken"}', 500
            case "html":
                return (b"<html>it works</html>",)
            case "nan":
                return (json.dumps(slate | {"propensities": [float("nan")] * len(items)}).encode(),)
            case "twice":
                return (json.dumps(slate | {"items": items[:1] * len(items)}).encode(),)
            case "others":
                return (json.dumps(slate | {"request_id": "somebody-else"}).encode(),)
            case "other-policy":
                return (json.dumps(slate | {"policy": "not-this-one"}).encode(),)
            case "unknown":
                return (json.dumps(slate | {"items": [f"x{n}" for n in range(len(items))]}).encode(),)
            case "endless":
                return (b'{"items": ["' + b"a" * (2 << 20) + b'"]}',)
        return (json.dumps(slate).encode(),)

    def reply(self, body, status=200):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Standin:
    """One such server as a process; use as a context manager."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.name], stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def behave(self, mode: str) -> None:
        urllib.request.urlopen(f"{self.url}/mode", mode.encode(), timeout=5).close()

    def seen(self) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=5) as answer:
            return json.load(answer)


if __name__ == "__main__":
    Answers.name = sys.argv[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
