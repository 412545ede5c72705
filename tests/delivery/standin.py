"""A slot as a real HTTP server that behaves as a fault demands.

``python tests/delivery/standin.py NAME [PORT]`` prints its port; ``POST /mode`` with one of ``MODES`` as
the body changes how it answers from then on. ``slow:0.2`` answers after so many seconds, ``some:20`` fails
at every twentieth request, ``flood`` and ``drip`` never end.
"""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODES = ("ok", "hang", "error", "html", "nan", "twice", "others", "other-policy", "unknown", "endless", "cut")
NEVER_ENDING = ("hang", "flood", "drip")
# beside these "strict": as ok, and an unknown field is refused


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
        if self.mode == "strict" and "nonsense" in asked:
            self.reply(b'{"error": "unknown field"}', 422)
            return
        if self.mode == "hang":
            threading.Event().wait(30)
        if self.mode.startswith("slow:"):
            time.sleep(float(self.mode.partition(":")[2]))
        if self.mode.startswith("some:") and len(self.seen) % int(self.mode.partition(":")[2]) == 0:
            self.reply(b'{"error": "broken"}', 500)
            return
        if self.mode in ("flood", "drip"):
            self.pour(b'{"items": ["' + b"a" * 65536 if self.mode == "flood" else b" ")
            return
        if self.mode == "cut":
            self.close_connection = True
            return
        self.reply(*self.slate(asked))

    def pour(self, part):
        self.send_response(200)
        self.send_header("content-length", str(100 << 20))
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while True:
                self.wfile.write(part)
                self.wfile.flush()
                if self.mode == "drip":
                    time.sleep(0.05)

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
        self.name, self.port = name, 0

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.name, str(self.port)], stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def kill(self) -> None:
        """Without a word to those who wait; entering it again starts it at the same port."""
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def behave(self, mode: str) -> None:
        urllib.request.urlopen(f"{self.url}/mode", mode.encode(), timeout=60).close()

    def seen(self) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=60) as answer:
            return json.load(answer)


if __name__ == "__main__":
    Answers.name = sys.argv[1]
    ThreadingHTTPServer.request_queue_size = 1024
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Answers)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
