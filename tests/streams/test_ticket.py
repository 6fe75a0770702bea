"""What a ticket opens, and everything it does not."""

from __future__ import annotations

import asyncio
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import pbkdf2_hmac

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscd.errors import Forbidden
from oscd.feed.frame import StreamFilter
from oscd.streams.ticket import MAX_TICKET, Ticket, Tickets, credential
from tests.support.waiting import PATIENCE

SALT, OTHER_SALT = bytes(64), b"\1" * 64
KEY, OTHER = b"api-key-one", b"api-key-two"
WANTED = StreamFilter("k", None, "c")
NOW = 1_000_000
NOTHING = StreamFilter()

names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
filters = st.builds(StreamFilter, names | st.none(), names | st.none(), names | st.none())


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def tickets_of(salt: bytes = SALT, clock: Clock | None = None) -> Tickets:
    return Tickets(lambda: salt, clock=clock or Clock(), rounds=1)


async def refused(
    text: str, asked: StreamFilter = NOTHING, *keys: bytes, tickets: Tickets | None = None
) -> str:
    """Redeem what must be refused; gives what the caller is told."""
    with pytest.raises(Forbidden) as refusal:
        (await (tickets or tickets_of()).redeem(text, keys or (KEY,))).require(asked)
    return refusal.value.detail


@given(filters, st.sampled_from([None, KEY]), st.integers(1, 86400))
async def test_a_ticket_opens_what_it_was_issued_for(
    wanted: StreamFilter, api_key: bytes | None, seconds: int
) -> None:
    """Any node with the same salt and key redeems it, whether the filters are repeated or left out."""
    text, expires_at = await tickets_of().issue(wanted, seconds, api_key)
    accepted = [] if api_key is None else [OTHER, api_key]
    for asked in (NOTHING, wanted):
        ticket = await tickets_of().redeem(text, accepted)
        ticket.require(asked)
        assert ticket == Ticket(wanted, NOW + seconds, None if api_key is None else credential(api_key))
    assert expires_at == NOW + seconds


async def test_a_ticket_with_any_character_changed_is_refused() -> None:
    """Forgery: each character, replaced by every other that base64 knows, and by some it does not."""
    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    tickets = tickets_of()
    for place in range(len(text)):
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=.! \n\0é":
            if other != text[place]:
                forged = text[:place] + other + text[place + 1 :]
                with pytest.raises(Forbidden):
                    await tickets.redeem(forged, [KEY])


async def test_a_ticket_with_anything_added_or_missing_is_refused() -> None:
    """Truncation and padding: no prefix, no suffix, nothing put in between is the ticket."""
    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    tickets = tickets_of()
    forged = [text[:n] for n in range(len(text))] + [text[n:] for n in range(1, len(text))]
    for more in ("=", "==", "A", "!", "\n", " ", ".", ".A", "é"):
        forged += [text[:n] + more + text[n:] for n in range(len(text) + 1)]
    for one in forged:
        with pytest.raises(Forbidden):
            await tickets.redeem(one, [KEY])


async def test_contents_that_were_not_signed_are_not_read() -> None:
    """Forgery: other contents under a true signature, and none of what is said of them, is believed."""
    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    _, contents, signature = text.split(".")
    documents: list[object] = [[NOW + 99999, "k", None, "c"], [NOW + 60, None, None, None], [], {}, "x"]
    for document in documents:
        other = urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()
        assert "not issued here" in await refused(f"v1.{other}.{signature}")
    longer = urlsafe_b64encode(urlsafe_b64decode(contents + "==") + b" ").rstrip(b"=").decode()
    assert "not issued here" in await refused(f"v1.{longer}.{signature}")


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "v1..", "v2.e30.e30", "ticket", "\0", "é.é.é", "v1.é.é", "v1.A.A"]
)
async def test_what_is_no_ticket_is_refused(text: str) -> None:
    """Anything may stand in a query; a person is told where tickets come from."""
    assert "POST /sse/tickets" in await refused(text) or "not issued here" in await refused(text)


async def test_a_ticket_that_is_too_long_is_refused() -> None:
    """Length is bounded before anything is decoded; the longest names there are fit."""
    longest = StreamFilter("\U0001f511" * 255, "\U0001f511" * 100, "\U0001f511" * 100)
    text, _ = await tickets_of().issue(longest, 60, KEY)
    assert len(text) <= MAX_TICKET
    assert (await tickets_of().redeem(text, [KEY])).wanted == longest
    assert "not a ticket" in await refused("v1." + "A" * MAX_TICKET + ".A")


@pytest.mark.parametrize(
    "asked",
    [
        StreamFilter("k"),
        StreamFilter("k", "e", "c"),
        StreamFilter("other", None, "c"),
        StreamFilter(None, "e"),
    ],
)
async def test_a_ticket_opens_no_other_filters(asked: StreamFilter) -> None:
    """Neither more nor fewer filters than it was issued for, even where they would match less."""
    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    assert "other filters" in await refused(text, asked)


async def test_a_ticket_ends_at_its_time() -> None:
    """It opens a stream up to the second before its end, and none from that second on."""
    clock = Clock()
    tickets = tickets_of(clock=clock)
    text, expires_at = await tickets.issue(WANTED, 60, KEY)
    clock.now = expires_at - 0.001
    await tickets.redeem(text, [KEY])
    for now in (float(expires_at), expires_at + 1e6):
        clock.now = now
        assert "expired" in await refused(text, tickets=tickets)


async def test_a_ticket_dies_with_its_api_key() -> None:
    """Rotation: once the key that asked is accepted no more, its tickets open nothing; those of others do."""
    tickets = tickets_of()
    text, _ = await tickets.issue(WANTED, 60, KEY)
    assert (await tickets.redeem(text, [KEY, OTHER])).credential == credential(KEY)
    assert "its API key is gone" in await refused(text, NOTHING, OTHER, tickets=tickets)
    assert (await tickets.redeem(text, [OTHER, KEY])).credential == credential(KEY)


async def test_a_ticket_of_another_cluster_is_refused() -> None:
    """The same API key under another salt signs nothing here."""
    for api_key in (None, KEY):
        text, _ = await tickets_of(OTHER_SALT).issue(WANTED, 60, api_key)
        assert "not issued here" in await refused(text)
        with pytest.raises(Forbidden):
            await tickets_of().redeem(text, [])


async def test_a_ticket_of_a_keyless_node_opens_nothing_where_a_key_is_required() -> None:
    """Who could not show a key then cannot do without one now; nor the other way round."""
    keyless, _ = await tickets_of().issue(WANTED, 60, None)
    keyed, _ = await tickets_of().issue(WANTED, 60, KEY)
    assert "not issued here" in await refused(keyless)
    with pytest.raises(Forbidden):
        await tickets_of().redeem(keyed, [])
    assert (await tickets_of().redeem(keyless, [])).credential is None


async def test_a_key_is_stretched_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretching costs 50 ms of a core: a crowd that reconnects causes one for each accepted key, no more."""
    stretched: list[bytes] = []

    def counted(name: str, api_key: bytes, salt: bytes, rounds: int) -> bytes:
        stretched.append(api_key)
        return pbkdf2_hmac(name, api_key, salt, rounds)

    monkeypatch.setattr("oscd.streams.ticket.hashlib.pbkdf2_hmac", counted)
    tickets = tickets_of()
    text, _ = await tickets.issue(WANTED, 60, KEY)
    await asyncio.gather(*(tickets.redeem(text, [OTHER, KEY]) for _ in range(50)))
    assert sorted(stretched) == [KEY, OTHER]
    many = [b"%d" % number for number in range(100)]
    for _ in range(2):
        with pytest.raises(Forbidden):
            await tickets.redeem(text, many)
    assert sorted(stretched) == sorted([KEY, OTHER, *many])
    assert (await tickets.redeem(text, [KEY])).wanted == WANTED
    assert set(tickets._stretched) == {credential(KEY)}


async def test_callers_that_leave_cause_no_second_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a ticket and hangs up cannot make the node stretch the same key again and again."""
    begun, go_on = threading.Event(), threading.Event()
    stretched: list[bytes] = []

    def slow(name: str, api_key: bytes, salt: bytes, rounds: int) -> bytes:
        stretched.append(api_key)
        begun.set()
        go_on.wait(PATIENCE)
        return pbkdf2_hmac(name, api_key, salt, rounds)

    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    monkeypatch.setattr("oscd.streams.ticket.hashlib.pbkdf2_hmac", slow)
    tickets = tickets_of()
    for _ in range(5):
        leaving = asyncio.create_task(tickets.redeem(text, [KEY]))
        await asyncio.to_thread(begun.wait, PATIENCE)
        leaving.cancel()
        await asyncio.wait({leaving})
    go_on.set()
    assert (await tickets.redeem(text, [KEY])).wanted == WANTED
    assert stretched == [KEY]


async def test_a_ticket_shows_no_api_key() -> None:
    """Neither the ticket nor its repr tells the key it was signed with, and a credential is not the key."""
    text, _ = await tickets_of().issue(WANTED, 60, KEY)
    assert KEY.decode() not in text
    assert KEY not in urlsafe_b64decode(text.split(".")[1] + "==")
    assert KEY.decode() not in repr(await tickets_of().redeem(text, [KEY]))
    assert KEY not in credential(KEY)
