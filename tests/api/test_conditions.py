"""Entity tags and preconditions (RFC 9110 §13), read from headers and applied to entries."""

from __future__ import annotations

import pytest

from oscd.api.conditions import preconditions_of
from oscd.api.exchange import exchange_of
from oscd.commands import Preconditions
from oscd.errors import BadRequest
from tests.api.asgi import Header, Site, assert_problem, http_scope

TARGET = "/configs/k?environment=e"


def read(*headers: Header) -> Preconditions:
    return preconditions_of(exchange_of(http_scope("PUT", TARGET, headers), ()))


@pytest.mark.parametrize(
    ("text", "if_match", "if_none_match"),
    [
        ("*", {"*"}, {"*"}),
        (" * ", {"*"}, {"*"}),
        ('"a"', {"a"}, {"a"}),
        ('"a", "b"', {"a", "b"}, {"a", "b"}),
        ('"a","b" ,\t"c"', {"a", "b", "c"}, {"a", "b", "c"}),
        (',"a",, "b",', {"a", "b"}, {"a", "b"}),
        ('W/"a"', set(), {"a"}),
        ('W/"a", "b"', {"b"}, {"a", "b"}),
        ('"a,b"', {"a,b"}, {"a,b"}),
        ('""', {""}, {""}),
        ('"*"', set(), set()),
        ('"\xe9"', {"\xe9"}, {"\xe9"}),
    ],
)
def test_lists_of_tags_are_read(text: str, if_match: set[str], if_none_match: set[str]) -> None:
    """Tags come with or without `W/`, in lists; a weak one counts only where comparison is weak."""
    assert read(("if-match", text)) == Preconditions(frozenset(if_match), None)
    assert read(("if-none-match", text)) == Preconditions(None, frozenset(if_none_match))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "a",
        '"a',
        'a"',
        '"a""b"',
        '"a" "b"',
        'w/"a"',
        '"a"; "b"',
        '*, "a"',
        "**",
        '"a b"',
        "W/*",
        '"a",b',
    ],
)
@pytest.mark.parametrize("name", ["if-match", "if-none-match"])
def test_what_is_no_list_of_tags_is_refused(name: str, text: str) -> None:
    """A precondition that cannot be read, an empty one too, is never taken for none."""
    with pytest.raises(BadRequest, match="entity tags"):
        read((name, text))


def test_a_list_over_several_lines_is_one_list() -> None:
    """Repeated lines of a list header are one list (RFC 9110 §5.3)."""
    both = read(("if-match", '"a"'), ("if-match", '"b"'), ("if-none-match", '"c"'), ("if-none-match", '"d"'))
    assert both == Preconditions(frozenset({"a", "b"}), frozenset({"c", "d"}))


@pytest.mark.parametrize("text", [',"a"' * 8000 + "x", "," * 32_000 + "x", '"' * 32_001, " ," * 16_000 + '"'])
def test_a_long_list_is_read_in_linear_time(text: str) -> None:
    """Nothing a header may hold makes reading it take long; the suite's own time limit is the measure."""
    with pytest.raises(BadRequest):
        read(("if-match", text))


async def test_a_read_of_what_the_client_has_is_304(site: Site) -> None:
    """`If-None-Match` with the current tag, weak or in a list, gives 304 with the tag and no body."""
    tag = (await site.create("k")).header("etag")
    assert tag is not None
    assert tag[0] == tag[-1] == '"'
    for value in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answered = await site.ask("GET", TARGET, ("if-none-match", value))
        assert (answered.status, answered.body, answered.header("etag")) == (304, b"", tag)
        assert answered.header("cache-control") == "no-store"
    other = await site.ask("GET", TARGET, ("if-none-match", '"other", "*"'))
    assert (other.status, other.header("etag")) == (200, tag)


async def test_the_tag_is_the_same_in_both_modes_and_new_after_each_write(site: Site) -> None:
    """The tag names the winning event: equal for reads of every mode and for its write, never used twice."""
    seen = [(await site.create("k")).header("etag")]
    for value in (2, 2):
        seen.append((await site.ask("PUT", TARGET, body={"value": value})).header("etag"))
        for mode in ("short", "full"):
            assert (await site.ask("GET", f"{TARGET}&mode={mode}")).header("etag") == seen[-1]
    await site.ask("DELETE", TARGET)
    seen.append((await site.create("k")).header("etag"))
    assert None not in seen
    assert len(set(seen)) == 4


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_write_with_if_match_needs_the_current_tag(site: Site, method: str) -> None:
    """A stale, foreign or weak tag is 412 and changes nothing; the current one, or `*`, writes."""
    old = (await site.create("k")).header("etag")
    new = (await site.ask("PUT", TARGET, body={"value": 2})).header("etag")
    body = {"value": 3} if method == "PUT" else None
    before = await site.state()
    for value in (old, f"W/{new}", '"*"', '"x", "y"', str(new).strip('"').join(['"x', '"'])):
        assert_problem(await site.ask(method, TARGET, ("if-match", str(value)), body=body), 412)
    assert_problem(await site.ask(method, TARGET, ("if-none-match", str(new)), body=body), 412)
    assert await site.state() == before
    assert (await site.ask(method, TARGET, ("if-match", f"{old}, {new}"), body=body)).status == 200


async def test_if_match_on_nothing_is_404(site: Site) -> None:
    """An entry that does not exist is 404 before any precondition, `*` and a contradiction included."""
    for headers in (
        [("if-match", "*")],
        [("if-match", '"a"')],
        [("if-match", "*"), ("if-none-match", "*")],
        [("if-none-match", '"*"')],
    ):
        assert_problem(await site.ask("PUT", TARGET, *headers, body={"value": 1}), 404)
    assert_problem(await site.ask("DELETE", TARGET, ("if-none-match", "*")), 404)
    assert (await site.state())[0] == 0


async def test_put_with_if_none_match_any_creates_once(site: Site) -> None:
    """`If-None-Match: *` creates with 201 and `Location`; what exists is 412, and deleted it can be created anew."""
    create = ("if-none-match", "*")
    created = await site.ask("PUT", TARGET, create, body={"value": 1, "category": "c"})
    assert (created.status, created.header("location")) == (201, TARGET)
    assert created.json()["version"] == 1
    assert created.json()["category"] == "c"
    before = await site.state()
    assert_problem(await site.ask("PUT", TARGET, create, body={"value": 2}), 412)
    assert await site.state() == before
    await site.ask("DELETE", TARGET)
    assert (await site.ask("PUT", TARGET, create, body={"value": 3})).status == 201


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_malformed_precondition_is_400_before_the_entry_is_looked_for(
    site: Site, method: str
) -> None:
    """A precondition nobody can read is told even where there is no entry."""
    body = {"value": 1} if method == "PUT" else None
    assert_problem(await site.ask(method, TARGET, ("if-none-match", "abc"), body=body), 400)


async def test_a_duplicate_create_is_400_before_any_precondition(site: Site) -> None:
    """A duplicate POST is 400 whatever the preconditions say."""
    await site.create("k")
    for header in (("if-none-match", "*"), ("if-match", '"x"')):
        duplicate = await site.ask(
            "POST", "/configs", header, body={"key": "k", "value": 1, "environment": "e"}
        )
        assert "already exists" in assert_problem(duplicate, 400)["detail"]
