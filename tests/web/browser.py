"""A real Chromium without a window, steered over the DevTools protocol."""

import asyncio
import itertools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import aiohttp

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
SECONDS = 30


class Browser:
    """One browser with one page; use as a context manager."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = [*FLAGS, "--remote-debugging-port=0", f"--user-data-dir={self.folder.name}"]
        self.errors = Path(self.folder.name) / "stderr"
        self.process = subprocess.Popen([CHROMIUM, *flags, "about:blank"], stderr=self.errors.open("wb"))
        self.runner = asyncio.Runner()
        self.runner.run(self._attach())
        return self

    def __exit__(self, *_):
        self.runner.run(self.session.close())
        self.runner.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    async def _attach(self):
        for _ in range(SECONDS * 20):
            if found := re.search(r"listening on (ws://\S+)", self.errors.read_text()):
                break
            await asyncio.sleep(0.05)
        assert found, self.errors.read_text()
        self.session, self.numbers = aiohttp.ClientSession(), itertools.count(1)
        self.socket = await self.session.ws_connect(found[1], max_msg_size=1 << 24)
        self.target = {}
        page = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=page, flatten=True)
        self.target = {"sessionId": attached["sessionId"]}
        await self._call("Page.enable")
        await self._call("Runtime.enable")

    async def _call(self, method, **params):
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params} | self.target)
        while True:
            answer = await self.socket.receive_json(timeout=SECONDS)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def visit(self, url):
        """Go to a page, and wait until it has loaded."""
        self.runner.run(self._call("Page.navigate", url=url))
        for _ in range(SECONDS * 20):
            if self.run("location.href + document.readyState") == f"{url}complete":
                return
            self.runner.run(asyncio.sleep(0.05))
        raise AssertionError(f"{url} did not load")

    def run(self, script):
        """The value of a script's last expression."""
        said = self.runner.run(self._call("Runtime.evaluate", expression=script, returnByValue=True))
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")
