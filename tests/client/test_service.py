"""Each use case asks what the contract says, and trusts only what an answer may say."""

from __future__ import annotations

import json

import httpx
import pytest

from oscd.client.errors import AnswerUnreadable, UsageRefused
from oscd.client.service import ANY, Filters
from tests.client.answering import answer, entry, service, version


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "/configs/a%2Fb"),
        ("../x", "/configs/%2E%2E%2Fx"),
        (".", "/configs/%2E"),
        ("a?b#c%2F", "/configs/a%3Fb%23c%252F"),
        ("€ ", "/configs/%E2%82%AC%20"),
    ],
)
def test_a_key_reaches_the_node_as_it_is(key: str, path: str) -> None:
    """No character of a key is path, query or taken out on the way."""
    one, script = service(answer(entry(key)))
    assert one.get("prod", key).key == key
    assert script.asked[0].url.raw_path == f"{path}?environment=prod&mode=full".encode()


@pytest.mark.parametrize("key", ["", "\ud800"])
def test_a_key_that_is_none_is_not_sent(key: str) -> None:
    """An empty key would be another call."""
    one, script = service()
    with pytest.raises(UsageRefused, match="the key is empty"):
        one.get("prod", key)
    assert not script.asked


def test_a_read_gives_the_entry_with_its_tag() -> None:
    """The value comes as it is, integers beyond 64 bits too; the tag and the cut come along."""
    big = 10**30
    one, script = service(answer(entry(value=big), ETag='"t"', X_OSC_Position="A9"))
    got = one.get("prod", "a", at="A9")
    assert (got.value, got.tag, got.position) == (big, '"t"', "A9")
    assert dict(script.asked[0].url.params)["at"] == "A9"
    assert str(big) not in repr(got)


def test_a_list_is_read_page_by_page() -> None:
    """Each page is asked for by what the node gave as next; only its query is followed, not its host."""
    link = '<http://elsewhere/configs?limit=500&cursor=x%3D&mode=full>; rel="next"'
    one, script = service(answer([entry("a"), entry("b")], Link=link), answer([entry("c")]))
    assert [each.key for each in one.entries(Filters("prod", None, "p/"), at="A1")] == ["a", "b", "c"]
    first, second = (dict(request.url.params) for request in script.asked)
    assert first == {"environment": "prod", "prefix": "p/", "at": "A1", "mode": "full", "limit": "500"}
    assert second == {"limit": "500", "cursor": "x=", "mode": "full"}
    assert script.asked[1].url.host == "127.0.0.1"


def test_a_page_that_leads_to_itself_is_refused() -> None:
    """A node that pages for ever over nothing is not listened to for ever."""
    link = '</configs?mode=full&limit=500>; rel="next"'
    one, _ = service(answer([], Link=link))
    with pytest.raises(AnswerUnreadable, match="same page"):
        list(one.entries(Filters()))


def test_writes_say_their_conditions() -> None:
    """Create, update, delete and rollback send what they were given, and nothing that was not."""
    written = [answer(entry(), 201), *[answer(entry()) for _ in range(3)]]
    deleted = answer({"message": "m"}, X_OSC_Position="A2")
    one, script = service(*written, deleted)
    one.create("prod", "a", None, category="c")
    one.put("prod", "a", [1], category="", if_match='"t"')
    one.put("prod", "a", 1, if_none_match=ANY)
    one.rollback("prod", "a", position="A1", if_match='"t"')
    assert one.delete("prod", "a", if_match='"t"') == "A2"
    asked = [(request.method, request.url.path, request.content) for request in script.asked]
    assert [(method, path) for method, path, _ in asked] == [
        ("POST", "/configs"),
        ("PUT", "/configs/a"),
        ("PUT", "/configs/a"),
        ("POST", "/rollback/a"),
        ("DELETE", "/configs/a"),
    ]
    assert [json.loads(content) for *_, content in asked[:4]] == [
        {"key": "a", "environment": "prod", "value": None, "category": "c"},
        {"value": [1], "category": ""},
        {"value": 1},
        {"position": "A1"},
    ]
    conditions = [(r.headers.get("If-Match"), r.headers.get("If-None-Match")) for r in script.asked]
    assert conditions == [(None, None), ('"t"', None), (None, "*"), ('"t"', None), ('"t"', None)]


def test_a_history_comes_newest_first() -> None:
    """Pages, each oldest first, become one sequence from the newest on; the user key goes along for values alone."""
    link = '</history/a?environment=prod&cursor=x>; rel="next"'
    pages = [
        answer({"versions": [version(3), version(4, value=None)]}, Link=link),
        answer({"versions": [version(1), version(2)]}),
    ]
    one, script = service(*pages)
    found = list(one.history("prod", "a"))
    assert [each.version for each in found] == [4, 3, 2, 1]
    assert [each.opened for each in found] == [True, False, False, False]
    assert "X-User-Key" not in script.asked[0].headers


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        None,
        "x",
        {k: v for k, v in entry().items() if k != "value"},
        entry(version="1"),
        entry() | {"key": 1},
        entry(category=1),
    ],
)
def test_an_answer_of_another_shape_is_refused(document: object) -> None:
    """What does not look like an entry is not taken for one."""
    one, _ = service(answer(document))
    with pytest.raises(AnswerUnreadable):
        one.get("prod", "a")


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_refused(content: bytes) -> None:
    """A page of something else says so, without being repeated."""
    one, _ = service(httpx.Response(200, content=content))
    with pytest.raises(AnswerUnreadable, match="is OSC_URL the address of a node") as refused:
        one.get("prod", "a")
    assert refused.value.__context__ is None
