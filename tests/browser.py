"""A real browser: Debian's chromium without a screen, told what to do over its debugging pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PROGRAM = "chromium"
#: It takes what it is told from descriptor 3, and answers at 4.
WITH_PIPES = """
import fcntl, os, sys

from tests.waiting import BOUND_S
reads, writes = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
ANSWERS_WITHIN_S = 60
LOOK_S = 0.1


def need_browser() -> str:
    """Where it is. In CI it has to be there; elsewhere a test that wants it is skipped."""
    found = shutil.which(PROGRAM)
    if found is None:
        assert not os.environ.get("CI"), f"{PROGRAM} is not installed: see .ci/run"
        pytest.skip(f"no {PROGRAM} here: apt install {PROGRAM}")
    return found


class Browser:
    """One window. `user` and `password` are what a person would type when a page asks for them."""

    def __init__(self, folder: Path, *, user: str, password: str, width: int = 1280, height: int = 860) -> None:
        self._answer = {"response": "ProvideCredentials", "username": user, "password": password}
        self.asked = 0
        self.said: list[str] = []
        self.requested: list[str] = []
        self._page: str | None = None
        self._rest = b""
        self._number = 0
        reads, self._tell = os.pipe()
        self._hear, writes = os.pipe()
        options = [
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
            f"--window-size={width},{height}",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", WITH_PIPES, str(reads), str(writes), need_browser(), *options, "about:blank"],
            pass_fds=(reads, writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        )
        os.close(reads)
        os.close(writes)

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _begin(self) -> None:
        targets = self._call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._page = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Fetch.enable", handleAuthRequests=True)

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(ANSWERS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._tell)
        os.close(self._hear)

    def open(self, url: str) -> None:
        """Go there; `until` waits for what is to be seen."""
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """What an expression is, in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def until(self, script: str, *, timeout_s: float = 30) -> Any:
        """The first true value of an expression."""
        give_up_at = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < give_up_at, f"not within {timeout_s} s: {script}\n{self.text()}\n{self.said}"
            time.sleep(LOOK_S)
        return value

    def text(self) -> str:
        """What a person reads."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def html(self) -> str:
        """All of it, attributes and hidden parts too."""
        return str(self.run("document.documentElement.outerHTML"))

    def picture(self) -> bytes:
        """The window, as PNG."""
        return b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        give_up_at = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < give_up_at:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._see(message)
        pytest.fail(f"{method}: no answer")

    def _see(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Fetch.requestPaused":
                self.requested.append(parameters["request"]["url"])
                self._send("Fetch.continueRequest", {"requestId": parameters["requestId"]})
            case "Fetch.authRequired":
                self.asked += 1
                answer = {"requestId": parameters["requestId"], "authChallengeResponse": self._answer}
                self._send("Fetch.continueWithAuth", answer)
            case "Log.entryAdded":
                self.said.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
            case "Runtime.exceptionThrown":
                self.said.append(f"error: {parameters['exceptionDetails']}")
            case "Page.javascriptDialogOpening":
                self.said.append(f"error: a dialog: {parameters['message']}")
                self._send("Page.handleJavaScriptDialog", {"accept": True})
            case _:
                pass

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._page is not None:
            message["sessionId"] = self._page
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._hear, 2**20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))
