"""Requests to a peer: their bounds, and what is said of a peer that does not keep to them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from oscd.replication import calls as calls_module
from oscd.replication.calls import MAX_ANSWER_BYTES, Calls, Stream
from oscd.replication.peers import Peer
from oscd.replication.trouble import MAX_WORDS, PeerTrouble
from tests.replication.scripted import ANY_TLS, KEY, Script, Visit, scripted_peer
from tests.support.certificates import Authority
from tests.support.waiting import eventually

TYPE = "application/vnd.oscd.events"
SOON = 0.2
"""Seconds of patience with a peer, where the test waits for it to run out."""


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "ANSWER_SECONDS", SOON)


async def trouble_with(script: Script, *, stream: bool = False, silence_seconds: float = 60) -> PeerTrouble:
    """What is said of a peer that answers by this script."""
    async with scripted_peer(script) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY, silence_seconds=silence_seconds)
        with pytest.raises(PeerTrouble) as trouble:
            await (_read_on(calls) if stream else calls.ask("/cluster/salt"))
    _assert_fit_to_show(trouble.value)
    return trouble.value


async def _read_on(calls: Calls) -> None:
    async with calls.stream("/cluster/events", {}, TYPE) as opened:
        while True:
            await opened.read()


def _assert_fit_to_show(trouble: PeerTrouble) -> None:
    assert str(trouble).isprintable()
    assert KEY.decode() not in str(trouble)
    # The library's exceptions hold the request; none may ride along into a traceback.
    assert trouble.__cause__ is None
    assert trouble.__context__ is None


async def test_the_key_is_asked_for_with_each_request() -> None:
    """A key that was rotated is shown from the next request on, in X-API-Key and nowhere else."""
    keys = [b"first", b"second"]

    async def none(visit: Visit) -> None:
        await visit.answer(204)

    async with scripted_peer(none) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: keys[len(peer.visits)])
        for _ in keys:
            assert (await calls.ask("/cluster/salt")).status == 204
    assert [visit.headers["x-api-key"] for visit in peer.visits] == ["first", "second"]
    assert {visit.line for visit in peer.visits} == {"GET /cluster/salt HTTP/1.1"}
    assert {visit.headers["accept-encoding"] for visit in peer.visits} == {"identity"}


async def test_nothing_is_left_of_a_request() -> None:
    """Neither of one that was answered, nor of one that was refused, nor of a stream that was left."""
    status = 204

    async def answers(visit: Visit) -> None:
        if visit.line.startswith("GET /cluster/events"):
            await visit.head(Content_Type=TYPE)
            await visit.send(b"x")
            return
        await visit.answer(status)

    async with scripted_peer(answers) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY)
        await calls.ask("/cluster/salt")
        async with calls.stream("/cluster/events", {}, TYPE) as stream:
            await stream.read()
            assert peer.connections >= 1
        status = 403
        with pytest.raises(PeerTrouble):
            await calls.ask("/cluster/salt")
        await eventually(lambda: peer.connections == 0, what="the end of every connection")


async def test_no_cookie_is_kept() -> None:
    """A peer that sets a new one with each answer is sent none back."""

    async def sets(visit: Visit) -> None:
        await visit.answer(204, Set_Cookie=f"c{len(peer.visits)}={'x' * 1000}; Path=/")

    async with scripted_peer(sets) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY)
        for _ in range(3):
            await calls.ask("/cluster/salt")
    assert not any("cookie" in visit.headers for visit in peer.visits)


async def test_what_holds_any_key_of_this_node_is_not_shown() -> None:
    """Neither in a refusal, nor in a goodbye, nor in a name; of names a very short key forbids none."""
    keys = [b"an-api-key-of-callers", b"n", KEY]
    async with scripted_peer(
        lambda visit: visit.answer(403, b'{"detail":"is it an-api-key-of-callers?"}')
    ) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY, secrets=lambda: keys)
        with pytest.raises(PeerTrouble, match=r"^it answers 403$"):
            await calls.ask("/cluster/salt")
    assert [calls.words(text) for text in (f"no {KEY.decode()}", "so far")] == ["", "so far"]
    names = ["node-an-api-key-of-callers", KEY.decode(), "node-1"]
    assert [calls.holds_key(name) for name in names] == [True, True, False]


async def test_the_environment_sends_no_request_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that was set for the web never sees the key."""

    async def none(visit: Visit) -> None:
        await visit.answer(204)

    async with scripted_peer(none) as proxy, scripted_peer(none) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.peer.url)
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY)
        await calls.ask("/cluster/salt")
        assert (len(proxy.visits), len(peer.visits)) == (0, 1)


async def test_a_redirect_is_not_followed() -> None:
    """Whoever is named in it would be shown the key; asking again changes nothing, so the trouble lasts."""

    async def elsewhere(visit: Visit) -> None:
        await visit.answer(307, Location="/elsewhere")

    async with scripted_peer(elsewhere) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY)
        with pytest.raises(PeerTrouble, match=r"redirect \(307\)") as trouble:
            await calls.ask("/cluster/salt")
        assert trouble.value.lasts
        assert len(peer.visits) == 1


@pytest.mark.parametrize(
    ("status", "lasts"), [(401, True), (403, True), (404, True), (409, True), (429, False), (503, False)]
)
async def test_a_refusal_is_told_in_the_words_of_the_peer(status: int, lasts: bool) -> None:
    """`detail` is shown, cut and made printable; whether it lasts depends on the status."""
    detail = b'{"detail":"OSC_CLUSTER_KEY: \\u0007' + b"x" * 1000 + b'"}'
    trouble = await trouble_with(lambda visit: visit.answer(status, detail))
    assert str(trouble).startswith(f"it answers {status}: OSC_CLUSTER_KEY: ?xxx")
    assert len(str(trouble)) <= MAX_WORDS + 20
    assert trouble.lasts == lasts


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"you sent X-API-Key: %s"}' % KEY,
        b'{"detail":"%s%s"}' % (b"x" * MAX_WORDS, KEY),
        b'{"detail":["%s"]}' % KEY,
        b'{"request":"%s"}' % KEY,
        b"<html>%s</html>" % KEY,
        b"\xff",
        b"",
    ],
)
async def test_of_an_answer_that_is_none_of_a_node_nothing_is_shown(body: bytes) -> None:
    """Whatever echoes requests would have the key in our log: only a `detail` without it is repeated."""
    assert str(await trouble_with(lambda visit: visit.answer(403, body))) == "it answers 403"


async def test_an_answer_without_end_is_left() -> None:
    """Neither a refusal nor a salt is read beyond its bound."""

    async def endless(visit: Visit) -> None:
        await visit.head(visit_status)
        while True:
            await visit.send(b"x" * MAX_ANSWER_BYTES)

    visit_status = 200
    assert "larger than 64 KiB" in str(await trouble_with(endless))
    visit_status = 403
    assert str(await trouble_with(endless)) == "it answers 403"


async def _drip(visit: Visit, data: bytes) -> None:
    for byte in data * 1000:
        await visit.send(bytes([byte]))
        await asyncio.sleep(SOON / 20)


async def _dripping_head(visit: Visit) -> None:
    await _drip(visit, b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100)


async def _dripping_body(visit: Visit) -> None:
    await visit.head()
    await _drip(visit, b"x" * 100)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "script", [_dripping_head, _dripping_body, Visit.forever], ids=["head", "body", "none"]
)
async def test_a_drip_does_not_prolong_an_answer(script: Callable[[Visit], Awaitable[None]]) -> None:
    """The limit is on the whole, not on the pause between two bytes."""
    trouble = await trouble_with(script)
    assert f"{SOON:g} s" in str(trouble)
    assert not trouble.lasts


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"Content_Type": "text/html"}, "something else than events"),
        ({}, "something else than events"),
        ({"Content_Type": TYPE, "Content_Encoding": "gzip"}, "encoding"),
    ],
    ids=["a page", "no type", "an encoding"],
)
async def test_a_stream_of_something_else_is_not_read(headers: dict[str, str], sentence: str) -> None:
    """Type and encoding are checked before the first byte."""
    trouble = await trouble_with(lambda visit: visit.answer(200, b"x", **headers), stream=True)
    assert sentence in str(trouble)
    assert trouble.lasts


async def test_a_stream_that_ends_or_is_cut_off_says_so() -> None:
    """A clean end and one within a promised length are told apart, and neither lasts."""

    async def ends(visit: Visit) -> None:
        await visit.head(Content_Type=TYPE, Connection="close")
        visit.writer.write_eof()

    async def cut(visit: Visit) -> None:
        await visit.head(Content_Type=TYPE, Content_Length="10")
        await visit.send(b"half")
        visit.writer.transport.abort()

    assert str(await trouble_with(ends, stream=True)) == "it ended the stream"
    trouble = await trouble_with(cut, stream=True)
    assert "the stream was cut off" in str(trouble)
    assert not trouble.lasts


async def _given_up(task: asyncio.Task[None], steps: int) -> BaseException | None:
    """What a task ends with that is cancelled after so many steps of the loop."""
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    (told,) = await asyncio.gather(task, return_exceptions=True)
    return told


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "has ended"])
async def test_a_stream_may_be_given_up_at_any_moment(ends: bool) -> None:
    """From the first step of its request to the last one after its end; none of them is a later request's loss."""

    async def farewell(visit: Visit) -> None:
        if visit.line.startswith("GET /cluster/salt"):
            await visit.answer(204)
            return
        await visit.head(Content_Type=TYPE, Transfer_Encoding="chunked")
        await visit.send(b"7\r\ngoodbye\r\n" + b"0\r\n\r\n" * ends)

    async def read_on(opened: Stream) -> None:
        while True:
            await opened.read()

    async def read_one_beside(calls: Calls, steps: int) -> None:
        async with calls.stream("/cluster/events", {}, TYPE) as opened:
            await opened.read()
            reading = asyncio.create_task(read_on(opened))
            await _given_up(reading, steps)

    told: BaseException | None = None
    async with scripted_peer(farewell) as peer:
        calls = Calls(peer.peer, lambda: ANY_TLS, lambda: KEY)
        for steps in range(60):
            told = await _given_up(asyncio.create_task(_read_on(calls)), steps)
            await read_one_beside(calls, steps)
            assert (await calls.ask("/cluster/salt")).status == 204, steps
    assert isinstance(told, PeerTrouble if ends else asyncio.CancelledError), (
        "the last step was after the end"
    )


async def test_silence_ends_a_stream() -> None:
    """A peer that says nothing for a while is given up, whatever it said before."""

    async def silent(visit: Visit) -> None:
        await visit.head(Content_Type=f"{TYPE}; v=1")
        await visit.send(b"hello")
        await visit.forever()

    trouble = await trouble_with(silent, stream=True, silence_seconds=SOON)
    assert "it said nothing" in str(trouble)


async def test_nobody_there_is_told_in_the_words_of_the_system() -> None:
    """A port that nothing listens on is no mystery."""
    async with scripted_peer(Visit.forever) as gone:
        peer = gone.peer
    calls = Calls(peer, lambda: ANY_TLS, lambda: KEY)
    with pytest.raises(PeerTrouble, match="Connection refused") as trouble:
        await calls.ask("/cluster/salt")
    _assert_fit_to_show(trouble.value)
    assert not trouble.value.lasts


async def _asked_over_tls(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1") -> None:
    async def none(visit: Visit) -> None:
        await visit.answer(204)

    async with scripted_peer(none, tls=server) as peer:
        calls = Calls(Peer("peer", peer.peer.url.replace("127.0.0.1", host)), lambda: client, lambda: KEY)
        await calls.ask("/cluster/salt")


async def test_renewed_tls_is_for_what_comes_next(tmp_path: Path) -> None:
    """A stream goes on under the TLS it began with, the next request meets what is in force then."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Another authority")
    shown = ours.server()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(shown.certificate, shown.keyfile)
    in_force = ours.trusting()
    renewed = asyncio.Event()

    async def two_parts(visit: Visit) -> None:
        await visit.head(Content_Type=TYPE)
        await visit.send(b"before")
        await renewed.wait()
        await visit.send(b"after")
        await visit.forever()

    async with scripted_peer(two_parts, tls=server) as peer:
        calls = Calls(peer.peer, lambda: in_force, lambda: KEY)
        async with calls.stream("/cluster/events", {}, TYPE) as stream:
            assert await stream.read() == b"before"
            in_force = theirs.trusting()
            with pytest.raises(PeerTrouble, match="its certificate is not accepted"):
                await calls.ask("/cluster/salt")
            renewed.set()
            assert await stream.read() == b"after"


async def test_a_certificate_that_is_not_trusted_is_said_to_be_so(tmp_path: Path) -> None:
    """Another authority's, and one for another name, both last, and say where trust is set."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Another authority")
    shown = authority.server()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(shown.certificate, shown.keyfile)
    await _asked_over_tls(server, authority.trusting())
    for client, host in ((other.trusting(), "127.0.0.1"), (authority.trusting(), "127.1")):
        with pytest.raises(PeerTrouble, match="its certificate is not accepted") as trouble:
            await _asked_over_tls(server, client, host)
        _assert_fit_to_show(trouble.value)
        assert trouble.value.lasts
        assert "OSC_CLUSTER_CA_CERTS" in str(trouble.value)


async def test_a_peer_that_wants_a_certificate_is_said_to_want_one(tmp_path: Path) -> None:
    """Where the peer verifies nodes, one that shows nothing is told which setting it lacks."""
    authority = Authority(tmp_path)
    shown = authority.server()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.bundle)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(shown.certificate, shown.keyfile)
    await _asked_over_tls(server, authority.trusting(authority.client()))
    client = authority.trusting()
    with pytest.raises(PeerTrouble, match="OSC_CLUSTER_CERTFILE is what this node shows it") as trouble:
        await _asked_over_tls(server, client)
    _assert_fit_to_show(trouble.value)
    # Its refusal comes before the handshake is over here …
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(
        PeerTrouble, match=r"no TLS with it .*OSC_CLUSTER_CERTFILE is what this node shows it"
    ):
        await _asked_over_tls(server, client)


def test_a_peer_that_hangs_up_on_a_certificate_is_thought_to_want_another(tmp_path: Path) -> None:
    """… and otherwise as nothing but the end of the connection, where the loop is the one that workers use."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    shown = ours.server()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.bundle)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(shown.certificate, shown.keyfile)
    for client in (ours.trusting(), ours.trusting(theirs.client())):
        with (
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            pytest.raises(PeerTrouble, match="OSC_CLUSTER_CERTFILE is what this node shows it"),
        ):
            runner.run(_asked_over_tls(server, client))
