"""Owns load that never ceases while something is changed below it, and every answer that was not a success.

Each caller goes on for as long as its block lasts, on a new connection for each request and on one that it keeps.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.support.node import NO_TLS, USER_KEY, key_headers
from tests.support.waiting import PATIENCE, wait_until


@dataclass(slots=True)
class Load:
    """What came of it so far.

    Attributes:
        answered: Requests that succeeded.
        failures: What came of each other one, in words.
    """

    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def await_more(self, requests: int = 12) -> None:
        """Wait for so many more answers: what was changed before has met all callers."""
        enough = self.answered + requests
        wait_until(lambda: self.failures or self.answered >= enough, what="answers under load")


@contextmanager
def steady_load(base_url: str, *, api_key: str | None = None, tls: ssl.SSLContext = NO_TLS) -> Iterator[Load]:
    """Ask and write with these keys until the block ends."""
    load, stop, lock = Load(), threading.Event(), threading.Lock()

    def client() -> httpx.Client:
        headers = key_headers(USER_KEY, api_key)
        return httpx.Client(base_url=base_url, headers=headers, timeout=PATIENCE, trust_env=False, verify=tls)

    def ask(asking: httpx.Client, number: int) -> None:
        try:
            if number % 2:
                answer = asking.get("/stats")
            else:
                entry = {"value": number}
                answer = asking.put("/configs/load?environment=e", json=entry, headers={"If-None-Match": "*"})
            is_well = answer.is_success or answer.status_code == 412  # it is there already
            said = "" if is_well else f"{answer.status_code} {answer.text}"
        except httpx.HTTPError as error:
            said = repr(error)
        with lock:
            if said:
                load.failures.append(said)
            else:
                load.answered += 1

    def keep_asking(*, keeps: bool) -> None:
        number = 0
        with client() as kept:
            while not stop.is_set():
                number += 1
                if keeps:
                    ask(kept, number)
                else:
                    with client() as fresh:
                        ask(fresh, number)

    threads = [threading.Thread(target=keep_asking, kwargs={"keeps": keeps}) for keeps in (True, False)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
