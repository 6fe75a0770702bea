"""`get`, `set`, `ls` and `rm`: what people see, and what scripts rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.node import OTHER_USER_KEY


def test_text_comes_back_bare_and_anything_else_as_json(oscd: Run) -> None:
    """A value is text unless it is said to be JSON, whatever it looks like."""
    oscd("set", "t/text", "5", "-e", "prod")
    oscd("set", "t/json", '{"a": [1, null, "é"]}', "-e", "prod", "--json-value")
    oscd("set", "t/quoted", '"5"', "-e", "prod", "--json-value")
    assert oscd("get", "t/text", "-e", "prod").output == "5\n"
    assert oscd("get", "t/json", "-e", "prod").output == '{"a": [1, null, "é"]}\n'
    assert oscd("get", "t/quoted", "-e", "prod").output == "5\n"
    assert oscd("get", "t/text", "-e", "prod", "--json").document["value"] == "5"


def test_what_get_printed_comes_back_equal(oscd: Run, tmp_path: Path) -> None:
    """Standard input and a file lose the one line feed that `get` adds, and nothing else."""
    for text in ("-----BEGIN-----\nx\n-----END-----\n", "no end", "\n\n", "\ttab\r\n", "€\u2028", ""):
        (tmp_path / "value").write_bytes(text.encode())
        oscd("set", "round", "-e", "prod", "--file", str(tmp_path / "value"))
        first = oscd("get", "round", "-e", "prod", "--json").document["value"]
        assert first == text.removesuffix("\n")
        oscd("set", "round", "-", "-e", "prod", given=oscd("get", "round", "-e", "prod").printed)
        assert oscd("get", "round", "-e", "prod", "--json").document["value"] == first


def test_set_creates_and_updates(oscd: Run) -> None:
    """One command for both; it says which version there is now, never the value."""
    assert oscd("set", "cu", "s3cret", "-e", "prod", "-c", "db").output == "cu in prod is now version 1.\n"
    assert oscd("set", "cu", "s3cret", "-e", "prod").output == "cu in prod is now version 2.\n"
    told = oscd("set", "cu", "s3cret", "-e", "prod", "-c", "", "--json")
    assert list(told.document) == [
        *("key", "environment", "category", "version"),
        *("created_at", "updated_at", "etag", "position"),
    ]
    assert (told.document["version"], told.document["category"]) == (3, None)
    assert "s3cret" not in told.output


def test_set_can_be_compare_and_swap(oscd: Run) -> None:
    """`--create` and `--if-match` change nothing where somebody was faster; the status is that of a conflict."""
    etag = oscd("set", "cas", "1", "-e", "prod", "--create", "--json").document["etag"]
    assert oscd("set", "cas", "2", "-e", "prod", "--create", fails=True).status == 5
    oscd("set", "cas", "2", "-e", "prod", "--if-match", etag)
    assert oscd("set", "cas", "3", "-e", "prod", "--if-match", etag, fails=True).status == 5
    assert oscd("rm", "cas", "-e", "prod", "--if-match", etag, fails=True).status == 5
    assert oscd("get", "cas", "-e", "prod").output == "2\n"


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (["x", "-e", "prod"], None, "no value; give VALUE, - for standard input, or --file FILE"),
        (["x", "-", "-e", "prod"], b"", "standard input is empty"),
        (["x", "-", "-e", "prod"], b"\xff", "standard input: is not UTF-8"),
        (["x", "v", "-e", "prod", "--file", "f"], None, "both given"),
        (["x", "-e", "prod", "--file", "none"], None, "--file: No such file"),
        (["x", "{", "-e", "prod", "--json-value"], None, "the value cannot be taken as JSON"),
        (["x", "NaN", "-e", "prod", "--json-value"], None, "the value cannot be taken as JSON"),
        (["x", '{"s3cret": 1, "s3cret": 2}', "-e", "prod", "--json-value"], None, "a name comes twice"),
        (["x", "v", "-e", "prod", "--create", "--if-match", "t"], None, "exclude each other"),
        (["x", "-", "-e", "prod", "--user-key-file", "-"], b"k", "cannot hold both"),
        (["x", "v"], None, "Missing option '-e' / '--environment'"),
    ],
)
def test_wrong_usage_sets_nothing(oscd: Run, arguments: list[str], given: bytes, sentence: str) -> None:
    """Each is status 2 and a sentence, before anything is sent."""
    done = oscd("set", *arguments, given=given, fails=True)
    assert done.status == 2
    assert sentence in done.errors
    assert "s3cret" not in done.errors
    assert oscd("get", "x", "-e", "prod", fails=True).status == 3


def test_an_entry_can_be_read_as_it_was(oscd: Run) -> None:
    """A position, a time and a duration all name the past; what had not been is not found."""
    before = oscd("set", "past", "one", "-e", "prod", "--json").document
    oscd("set", "past", "two", "-e", "prod")
    told = oscd("get", "past", "-e", "prod", "--at", before["position"], "--json").document
    assert (told["value"], told["position"]) == ("one", before["position"])
    assert oscd("get", "past", "-e", "prod", "--at", before["updated_at"]).output == "one\n"
    assert oscd("get", "past", "-e", "prod", "--at", "1w", fails=True).status == 3
    assert oscd("get", "past", "-e", "prod", "--at", "2999-01-01T00:00:00Z", fails=True).status == 1
    assert oscd("get", "past", "-e", "prod", "--at", "yesterday", fails=True).status == 2
    listed = oscd("ls", "past", "--at", before["position"], "--values", "--json").documents
    assert [each["value"] for each in listed] == ["one"]


def test_a_list_shows_what_the_key_opens(oscd: Run) -> None:
    """Prefix, environment and category narrow it; values only where they are asked for."""
    for key, environment, category in (("l/a", "prod", "db"), ("l/b", "dev", ""), ("m", "prod", "db")):
        oscd("set", key, "s3cret", "-e", environment, "-c", category)
    oscd("set", "l/foreign", "x", "-e", "prod", OSC_USER_KEY=OTHER_USER_KEY)
    lines = [line.split("\t") for line in oscd("ls", "l/").output.splitlines()]
    assert [line[:4] for line in lines] == [["l/b", "dev", "-", "v1"], ["l/a", "prod", "db", "v1"]]
    assert [each["key"] for each in oscd("ls", "l/", "-e", "prod", "--json").documents] == ["l/a"]
    assert [each["key"] for each in oscd("ls", "-c", "db", "--json").documents] == ["l/a", "m"]
    (shown,) = oscd("ls", "l/a", "--json").documents
    assert list(shown) == ["key", "environment", "category", "version", "created_at", "updated_at"]
    assert oscd("ls", "l/a", "--values").output.endswith('\t"s3cret"\n')
    assert oscd("ls", "nothing/here").output == ""


def test_a_long_list_comes_in_pages(oscd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries beyond one page are not lost, nor told twice."""
    monkeypatch.setattr("oscd.client.service.PAGE_ENTRIES", 3)
    for number in range(8):
        oscd("set", f"page/{number}", "v", "-e", "prod")
    listed = [each["key"] for each in oscd("ls", "page/", "--json").documents]
    assert listed == [f"page/{number}" for number in range(8)]


def test_a_deleted_entry_is_gone(oscd: Run) -> None:
    """`rm` says so, once; the second time there is nothing."""
    oscd("set", "gone", "v", "-e", "prod")
    assert oscd("rm", "gone", "-e", "prod").output == "gone in prod is deleted.\n"
    assert oscd("rm", "gone", "-e", "prod", fails=True).status == 3
    oscd("set", "gone", "v", "-e", "prod")
    assert list(oscd("rm", "gone", "-e", "prod", "--json").document) == ["key", "environment", "position"]


def test_another_user_key_gets_nothing(oscd: Run) -> None:
    """Reading, writing and deleting with another key are status 4, and change nothing."""
    oscd("set", "mine", "v", "-e", "prod")
    for arguments in (["get", "mine"], ["set", "mine", "x"], ["rm", "mine"]):
        done = oscd(*arguments, "-e", "prod", "--json", fails=True, OSC_USER_KEY=OTHER_USER_KEY)
        assert done.status == 4
        assert (done.error["kind"], done.error["status"]) == ("not_authorized", 401)
        assert OTHER_USER_KEY not in done.errors
    assert oscd("get", "mine", "-e", "prod").output == "v\n"


def test_keys_that_paths_would_change_are_names_like_any_other(oscd: Run) -> None:
    """Dots, slashes, percent signs and spaces in a key reach the node as they are."""
    for key in ("..", "a/../b", "a//b/", "100%25", "a b?c#d", "€/é"):
        oscd("set", key, key, "-e", "odd env/ü")
        assert oscd("get", key, "-e", "odd env/ü").output == f"{key}\n"
