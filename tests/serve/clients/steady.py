"""Sends predictions at a steady rate and compares each answer with the offline one; runs as a process of its own.

python steady.py URL TOKEN FILE, where FILE is a JSON object with ``path``, ``rate`` (calls a second), ``bodies`` (one
for each call, in turn) and ``expected`` (the probabilities of each, by class). It writes one line a call to standard
output, ``began seconds status``: the status of HTTP; 0 where there was no answer; 1 where the answer was another one.
It ends when its standard input is closed. Imports nothing but the standard library.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CALLERS = 24
PATIENCE = 30.0
"""Seconds for which a caller waits for an answer."""
WRONG = 1


def matches(answer: dict[str, Any], expected: list[dict[str, float]]) -> bool:
    """Returns whether probabilities equal the offline ones to 1e-6."""
    given = [one["probabilities"] for one in answer["predictions"]]
    return len(given) == len(expected) and all(
        got.keys() == own.keys() and all(abs(got[name] - own[name]) <= 1e-6 for name in own)
        for got, own in zip(given, expected, strict=True)
    )


class Caller(threading.Thread):
    """Makes every n-th call, over a connection that it keeps as long as the server does."""

    def __init__(self, url: str, token: str, load: dict[str, Any], number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._host = str(urlsplit(url).netloc)
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        self._load, self._number, self._over = load, number, over
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Makes calls until the end, each at its time; a time that has passed is left out."""
        step, start = CALLERS / self._load["rate"], time.time() + self._number / self._load["rate"]
        count = 0
        while not self._over.is_set():
            wait = start + count * step - time.time()
            count += 1
            if wait < -step:
                continue
            time.sleep(max(wait, 0))
            began = time.time()
            status = self._call((count * CALLERS + self._number) % len(self._load["bodies"]))
            print(f"{began:.3f} {time.time() - began:.3f} {status}", flush=True)

    def _call(self, number: int) -> int:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, timeout=PATIENCE)
            self._connection.request("POST", self._load["path"], self._load["bodies"][number], self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
            if answer.will_close:
                self._close()
            if answer.status != 200 or matches(json.loads(content), self._load["expected"][number]):
                return answer.status
            return WRONG
        except (OSError, http.client.HTTPException):
            self._close()
            return 0

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


if __name__ == "__main__":
    url, token, file = sys.argv[1:]
    load = json.loads(Path(file).read_text())
    over = threading.Event()
    callers = [Caller(url, token, load, number, over) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    sys.stdin.read()
    over.set()
    for caller in callers:
        caller.join(PATIENCE)
