"""Streams, one after the other, become one: no change is left out or told twice, whatever breaks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import httpx
import pytest

from oscd.client.errors import AccessRefused, AnswerUnreadable, NodeUnavailable, Unreachable
from oscd.client.frames import Frame
from oscd.client.subscription import MOST_PAUSE_SECONDS, Place, Wanted, changes
from tests.client.answering import answer, change, frame, problem, service, stream

CONNECTED = frame("connected", {}, "A0")
CUT_OFF = httpx.ReadError("x")
REFUSED = httpx.ConnectError("x")


class Followed:
    """What a subscriber was told until it had so many frames."""

    def __init__(
        self,
        *answers: httpx.Response | Exception,
        frames: int,
        wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    ) -> None:
        self.slept: list[float] = []
        self.lost: list[str] = []
        one, self.script = service(*answers)
        told = changes(one, wanted, on_loss=self.lost.append, pause=self.slept.append)
        self.frames = list(itertools.islice(told, frames))

    @property
    def keys(self) -> Sequence[str]:
        """What changed, in order."""
        return [str(each.data["key"]) for each in self.frames if "key" in each.data]

    @property
    def resumed_from(self) -> list[str | None]:
        """Where each connection went on."""
        return [request.headers.get("Last-Event-ID") for request in self.script.asked]


def test_a_stream_that_breaks_goes_on_from_its_last_position() -> None:
    """After a reset and after a clean end, the next stream begins where the last one stood."""
    followed = Followed(
        stream(CONNECTED, change("a", 1, "A1"), then=CUT_OFF),
        stream(CONNECTED.replace("A0", "A1"), change("b", 2, "A2"), frame("goodbye", {"reason": "shutdown"})),
        stream(CONNECTED.replace("A0", "A2"), change("c", 3, "A3")),
        frames=7,
    )
    assert followed.keys == ["a", "b", "c"]
    assert followed.resumed_from == [None, "A1", "A2"]
    assert [len(followed.lost), len(followed.slept)] == [2, 2]


def test_an_id_alone_moves_the_position() -> None:
    """A subscriber whose filter matches nothing goes on from the last keep-alive."""
    followed = Followed(
        stream(CONNECTED, "id: A7\n\n", then=CUT_OFF), stream(CONNECTED, change("a", 1, "A8")), frames=4
    )
    assert followed.resumed_from == [None, "A7"]
    assert [each.event for each in followed.frames] == ["connected", "", "connected", "updated"]


def test_a_write_cut_in_two_is_told_once() -> None:
    """Within a write the position does not move, so the node tells all of it again; what was told is passed over."""
    write = [change("a", 1), change("b", 2), change("c", 3, "A1")]
    followed = Followed(
        stream(CONNECTED, *write[:2], then=CUT_OFF), stream(CONNECTED, *write), stream(CONNECTED), frames=5
    )
    assert followed.keys == ["a", "b", "c"]
    assert followed.resumed_from == [None, "A0"]


def test_the_same_key_changed_again_is_news() -> None:
    """Only the very same change is passed over."""
    followed = Followed(
        stream(CONNECTED, change("a", 1), then=CUT_OFF),
        stream(CONNECTED, change("a", 1), change("a", 2, "A2")),
        frames=4,
    )
    assert [each.data["timestamp"][17:19] for each in followed.frames if each.data] == ["01", "02"]


def test_what_was_told_is_forgotten_with_its_write() -> None:
    """Only frames past the position are remembered, so a subscriber of years holds no more than one write."""
    place, told = Place(None), Frame("updated", "A1", {"key": "a", "timestamp": "t"})
    inside = Frame("updated", None, told.data)
    assert [place.takes(frame) for frame in (inside, inside, told, told)] == [True, False, False, True]


def test_a_snapshot_cut_in_two_says_that_it_begins_anew() -> None:
    """Without a position the whole snapshot comes again; `connected` tells who forgets what came before."""
    snapshot = [change("a", 1, event="snapshot"), change("b", 2, event="snapshot")]
    followed = Followed(
        stream(frame("connected", {}), snapshot[0], then=CUT_OFF),
        stream(frame("connected", {}), *snapshot, frame("bookmark", {}, "A5")),
        frames=6,
        wanted=Wanted(snapshot=True),
    )
    assert [each.event for each in followed.frames] == [
        "connected",
        "snapshot",
        "connected",
        "snapshot",
        "snapshot",
        "bookmark",
    ]
    assert followed.keys == ["a", "a", "b"]
    assert followed.resumed_from == [None, None]


def test_a_reset_position_is_left_behind() -> None:
    """After `reset` the next stream goes on from where the node stands, not from where nobody does."""
    followed = Followed(
        stream(
            CONNECTED.replace("A0", "Aold"), frame("reset", {"reason": "unreachable"}, "A5"), then=CUT_OFF
        ),
        stream(CONNECTED, change("a", 1, "A6")),
        frames=4,
        wanted=Wanted(after="Aold"),
    )
    assert followed.resumed_from == ["Aold", "A5"]


def test_pauses_grow_and_are_bounded() -> None:
    """A node that stays away is asked ever less often, for ever; one that is back is asked at once again."""
    away = [REFUSED] * 12
    followed = Followed(
        stream("retry: 2000\n\n", CONNECTED, "id: A1\n\n", then=CUT_OFF),
        *away,
        problem(503, "shutting down"),
        problem(503, "shutting down"),
        problem(503, "shutting down"),
        problem(503, "shutting down"),
        stream(CONNECTED, "id: A2\n\n", then=CUT_OFF),
        stream(CONNECTED, change("a", 1, "A3")),
        frames=6,
    )
    assert followed.slept[0] >= 2
    assert 16 <= followed.slept[3] <= 24
    assert max(followed.slept) <= 1.5 * MOST_PAUSE_SECONDS
    assert followed.slept[-1] < 4
    assert len(followed.lost) == 2


def test_a_connection_alone_is_no_success() -> None:
    """A node that lets in and hangs up at once is not hammered."""
    hung_up = [stream(CONNECTED, frame("goodbye", {"reason": "shutdown"})) for _ in range(4)]
    followed = Followed(*hung_up, frames=8)
    assert followed.slept[2] >= 4


@pytest.mark.parametrize("error", [REFUSED, CUT_OFF])
def test_the_first_stream_must_be_there(error: Exception) -> None:
    """A wrong address is told at once instead of waited for."""
    with pytest.raises(Unreachable):
        Followed(error, frames=1)
    with pytest.raises(NodeUnavailable):
        Followed(problem(502, "x"), frames=1)


def test_a_refusal_ends_it() -> None:
    """A key that is no longer accepted wants a person."""
    with pytest.raises(AccessRefused):
        Followed(stream(CONNECTED, "id: A1\n\n"), problem(403, "X-API-Key is missing or wrong."), frames=9)


def test_what_is_wanted_is_asked_for() -> None:
    """Filters, snapshot and values go into the query, the user key only along with values."""
    every = Wanted("k", "e", "c", snapshot=True, values=True)
    followed = Followed(stream(CONNECTED), frames=1, wanted=every)
    query = {"key": "k", "environment": "e", "category": "c", "from": "snapshot", "values": "true"}
    assert dict(followed.script.asked[0].url.params) == query
    assert "X-User-Key" in followed.script.asked[0].headers
    assert "X-User-Key" not in Followed(stream(CONNECTED), frames=1).script.asked[0].headers


@pytest.mark.parametrize(
    "first", [httpx.Response(200, content="hello"), answer({}), stream(), stream(": hello\n\n")]
)
def test_what_is_no_node_is_not_waited_for(first: httpx.Response) -> None:
    """A page that is no stream, or a stream that ends without a word, is an error and not a node that went away."""
    with pytest.raises(AnswerUnreadable, match="OSC_URL"):
        Followed(first, frames=1)
