"""Whoever keeps failing is slowed down; whoever does not, never is.

Owns: how many failed authentications each address may have at full speed, in this worker. Must not: decide
what a failure is, or hold anything but addresses and counts. Memory is bounded twice (invariant 10): by the
addresses remembered and by the answers held back.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from oscd.errors import TooManyRequests

BURST: Final = 20
"""Failures an address may have at full speed."""

REFILL_PER_SECOND: Final = 2.0
"""Failures an address earns back."""

DELAY_SECONDS: Final = 0.5
"""How long a failing answer beyond those is held back."""

MAX_DELAYED: Final = 64
"""Answers held back at once; each keeps a connection open, so further ones are refused instead."""

MAX_ADDRESSES: Final = 4096
"""Addresses remembered; the one that failed longest ago is forgotten first."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class FailureThrottle:
    """Slows down repeated failures of one address; lives as long as its worker.

    Args:
        clock: Seconds that only rise.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._delayed = 0

    async def failed(self, address: str) -> None:
        """Note a failed authentication; return when its answer may be sent.

        Args:
            address: IP address of the client, or any other name of where the request came from.

        Raises:
            TooManyRequests: too many failing answers are being held back already.
        """
        if self._spend(_source(address)):
            return
        if self._delayed >= MAX_DELAYED:
            raise TooManyRequests("Too many failed requests; check the keys, then try again.")
        self._delayed += 1
        try:
            await self._sleep(DELAY_SECONDS)
        finally:
            self._delayed -= 1

    def _spend(self, source: str) -> bool:
        now = self._clock()
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = _Bucket(BURST, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(source)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) * REFILL_PER_SECOND)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _source(address: str) -> str:
    """Take an IPv6 network of 64 bits for one address: a single subscriber owns all of it (RFC 6177)."""
    if ":" not in address:
        return address
    try:
        ip = IPv6Address(address)
    except ValueError:
        return address
    return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
