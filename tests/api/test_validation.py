"""Query strings and paths are decoded strictly: one meaning, or a refusal."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes, urlencode

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from oscd.api.models import EntryQuery, ListQuery
from oscd.api.validation import MAX_PARAMETERS, decode_path_key, parse_query, read_query
from oscd.errors import Invalid

KNOWN = frozenset({"environment", "category", "prefix"})

characters = st.characters(exclude_categories=["Cs"])
bad_escapes = [b"%", b"%4", b"%zz", b"a%", b"%%41", b"%+1", b"%u0041", b"%-1", b"% 1"]
not_utf8 = [b"%ff", b"%C3", b"%ed%a0%80", b"%c0%af", b"\xff", b"a\xc3"]


@pytest.mark.parametrize(
    ("query_string", "parameters"),
    [
        (b"", {}),
        (b"environment=production", {"environment": "production"}),
        (b"environment=a+b%20c%2Bd", {"environment": "a b c+d"}),
        (b"environment=a=b", {"environment": "a=b"}),
        (b"env%69ronment=x", {"environment": "x"}),
        (b"&&environment=x&", {"environment": "x"}),
        (b"environment=%C3%A9&category=\xc3\xa9", {"environment": "é", "category": "é"}),
        (b"environment=&category&prefix=p", {"prefix": "p"}),
        (b"other=1&other=2&Environment=x", {}),
        (b"environment=a;category=b", {"environment": "a;category=b"}),
        (b"environment=a%26category%3Db", {"environment": "a&category=b"}),
    ],
)
def test_a_query_is_decoded(query_string: bytes, parameters: dict[str, str]) -> None:
    """Known parameters that are not empty come out decoded; the rest is ignored."""
    assert parse_query(query_string, KNOWN) == parameters


@pytest.mark.parametrize(
    "query_string",
    [b"environment=a&environment=a", b"environment=&environment=a", b"environment=a&environment"],
)
def test_a_known_parameter_comes_once(query_string: bytes) -> None:
    """Of two values no one can say which was meant, so neither is taken."""
    with pytest.raises(Invalid, match="environment: must be given once"):
        parse_query(query_string, KNOWN)


@pytest.mark.parametrize("raw", bad_escapes + not_utf8)
def test_a_query_is_percent_encoded_utf8(raw: bytes) -> None:
    """A bad escape or byte is refused wherever it stands, also in a parameter no one reads."""
    for query_string in (b"environment=" + raw, b"other=" + raw, raw + b"=1"):
        with pytest.raises(Invalid) as caught:
            parse_query(query_string, KNOWN)
        assert caught.value.__context__ is None


def test_parameters_are_bounded() -> None:
    """Invariant 10: a hundred parameters pass, known or not; one more is refused unread."""
    assert parse_query(b"&".join([b"x=1"] * MAX_PARAMETERS), KNOWN) == {}
    with pytest.raises(Invalid, match="at most 100"):
        parse_query(b"&".join([b"x=1"] * (MAX_PARAMETERS + 1)), KNOWN)


@settings(max_examples=300, print_blob=True)
@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(characters), st.text(characters), max_size=9),
    st.sampled_from([quote, quote_plus]),
)
def test_what_was_encoded_is_decoded(parameters: dict[str, str], encode: Any) -> None:  # noqa: ANN401 - urllib's own types
    """Both ways of writing a space, and every character, come back."""
    decoded = parse_query(urlencode(parameters, quote_via=encode).encode(), KNOWN)
    assert decoded == {name: text for name, text in parameters.items() if name in KNOWN and text}


@settings(max_examples=300, print_blob=True)
@given(
    st.lists(
        st.sampled_from([b"environment", b"=", b"&", b"%", b"%41", b"%c3", b"%a9", b"+", b"\xc3\xa9"])
        | st.binary(max_size=2)
    ).map(b"".join)
)
def test_any_query_is_decoded_or_refused(query_string: bytes) -> None:
    """Whatever bytes come, the answer is parameters that were in them, or a refusal."""
    try:
        decoded = parse_query(query_string, KNOWN)
    except Invalid:
        event("refused")
        return
    event("decoded")
    assert decoded.keys() <= KNOWN
    for text in decoded.values():
        assert text.encode() in unquote_to_bytes(query_string.replace(b"+", b" "))


def test_empty_parameters_mean_none() -> None:
    """An empty filter filters nothing, an empty mode is the default, an empty environment is missing."""
    blank = b"category=&environment=&prefix=&mode=&limit=&cursor="
    assert read_query(ListQuery, blank) == read_query(ListQuery, b"")
    assert read_query(EntryQuery, b"environment=e&mode=").mode == "short"
    with pytest.raises(Invalid, match="environment: is required"):
        read_query(EntryQuery, b"environment=")


def test_a_parameter_of_another_call_is_ignored() -> None:
    """What a call does not know cannot be wrong in it, nor come too often."""
    assert read_query(EntryQuery, b"environment=e&limit=x&limit=y").environment == "e"


def test_a_query_parameter_obeys_its_model() -> None:
    """An escaped control character is one."""
    with pytest.raises(Invalid) as caught:
        read_query(EntryQuery, b"environment=a%00b")
    assert [(error.loc, error.msg) for error in caught.value.errors] == [
        (("query", "environment"), "must have no control characters")
    ]


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"database/host", "database/host"),
        (b"database%2Fhost", "database/host"),
        (b"database%2fhost", "database/host"),
        (b"/a//b/", "/a//b/"),
        (b"../../etc/passwd", "../../etc/passwd"),
        (b"%2e%2e/.", "../."),
        (b"a+b%2B", "a+b+"),
        (b"100%25", "100%"),
        (b"%2525", "%25"),
        (b"a%3Fb%23c", "a?b#c"),
        ("é😀".encode(), "é😀"),
        (b"%C3%A9", "é"),
    ],
)
def test_a_path_is_decoded_once_and_left_as_it_is(raw: bytes, key: str) -> None:
    """A key is only a key: slashes and dots mean nothing, a plus is a plus, no escape is undone twice."""
    assert decode_path_key(raw) == key


@pytest.mark.parametrize("raw", [*bad_escapes, *not_utf8, b"", b"%00", b"a%0Ab", b"%C2%85", b"a" * 256])
def test_a_path_that_names_no_key_is_refused(raw: bytes) -> None:
    """Bad escapes, bad bytes and bad keys are 422, and the place is the path."""
    with pytest.raises(Invalid) as caught:
        decode_path_key(raw)
    assert caught.value.errors[0].loc[0] == "path"
    assert caught.value.__context__ is None


@settings(max_examples=300, print_blob=True)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255), st.data())
def test_any_key_survives_the_path(key: str, data: st.DataObject) -> None:
    """Whichever of its characters a client escapes, a key comes out as it went in."""
    safe = "".join(data.draw(st.sets(st.sampled_from("/!$&'()*+,;=:@")), label="left unescaped"))
    assert decode_path_key(quote(key, safe=safe).encode()) == key
    if "%" not in key:
        assert decode_path_key(key.encode()) == key
