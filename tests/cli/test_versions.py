"""`history`, `diff` and `rollback`: what an entry was, how it changed, and back."""

from __future__ import annotations

import pytest

from oscd.client.service import Service
from tests.cli.conftest import Run
from tests.support.node import OTHER_USER_KEY


@pytest.fixture
def key(oscd: Run, request: pytest.FixtureRequest) -> str:
    """An entry of a test's own with three versions: two texts, then JSON in another category."""
    name = str(request.node.name)
    oscd("set", name, "one\ntwo\nthree", "-e", "prod", "-c", "db", OSC_ACTOR="ann")
    oscd("set", name, "one\n2\nthree", "-e", "prod", OSC_ACTOR="bob")
    oscd("set", name, '{"b": 1, "a": [2]}', "-e", "prod", "-c", "web", "--json-value")
    return name


def test_a_history_is_newest_first(oscd: Run, key: str) -> None:
    """Each line says version, what, when, who, where and the position; `--limit` keeps the newest."""
    lines = [line.split("\t") for line in oscd("history", key, "-e", "prod").output.splitlines()]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("v3", "updated", "-"),
        ("v2", "updated", "bob"),
        ("v1", "created", "ann"),
    ]
    assert [
        each["version"] for each in oscd("history", key, "-e", "prod", "-n", "2", "--json").documents
    ] == [3, 2]


def test_a_history_needs_a_user_key_for_values_alone(oscd: Run, key: str) -> None:
    """Without `--values` none is asked for; with it, another's key opens nothing."""
    bare = oscd("history", key, "-e", "prod", "--json", OSC_USER_KEY="").documents
    assert list(bare[0]) == [
        *("version", "type", "timestamp", "category"),
        *("actor", "node_id", "superseded", "position"),
    ]
    assert oscd("history", key, "-e", "prod", "--values", OSC_USER_KEY="", fails=True).status == 2
    opened = oscd("history", key, "-e", "prod", "--values", "--json").documents
    assert opened[2]["value"] == "one\ntwo\nthree"
    foreign = oscd("history", key, "-e", "prod", "--values", "--json", OSC_USER_KEY=OTHER_USER_KEY).documents
    assert [("value" in each) for each in foreign] == [False] * 3


def test_a_long_history_comes_in_pages(oscd: Run, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions beyond one page are not lost, nor told twice."""
    monkeypatch.setattr("oscd.client.service.PAGE_ENTRIES", 2)
    for _ in range(4):
        oscd("set", key, "v", "-e", "prod")
    assert [e["version"] for e in oscd("history", key, "-e", "prod", "--json").documents] == [
        7,
        6,
        5,
        4,
        3,
        2,
        1,
    ]


def test_a_diff_shows_the_last_change(oscd: Run, key: str) -> None:
    """Without names it is the newest against the one before; JSON is sorted, a category has a line of its own."""
    lines = oscd("diff", key, "-e", "prod").output.splitlines()
    assert lines[0].startswith(f"--- {key} in prod  version 2  ")
    assert lines[1].startswith(f"+++ {key} in prod  version 3  ")
    assert lines[3:] == [
        '-"one\\n2\\nthree"',
        "+{",
        '+  "a": [',
        "+    2",
        "+  ],",
        '+  "b": 1',
        "+}",
        "category: db → web",
    ]


def test_a_diff_of_texts_is_by_line(oscd: Run, key: str) -> None:
    """Two names in any order; a position does as well as a number."""
    lines = oscd("diff", key, "-e", "prod", "1", "2").output.splitlines()
    assert lines[2:] == ["@@ -1,3 +1,3 @@", " one", "-two", "+2", " three"]
    position = oscd("history", key, "-e", "prod", "--json").documents[2]["position"]
    told = oscd("diff", key, "-e", "prod", "v2", position, "--json").document
    assert list(told) == ["key", "environment", "equal", "from", "to", "diff"]
    assert (told["equal"], told["from"]["value"], told["to"]["version"]) == (False, "one\n2\nthree", 1)


def test_a_diff_fails_on_a_difference_only_when_told(oscd: Run, key: str) -> None:
    """As git: status 0 either way, with `--exit-code` 1 where the two differ."""
    oscd("diff", key, "-e", "prod")
    assert oscd("diff", key, "-e", "prod", "--exit-code", fails=True).status == 1
    assert oscd("diff", key, "-e", "prod", "2", "2", "--exit-code").output == ""
    assert oscd("diff", key, "-e", "prod", "3", "--exit-code", "--json").document["equal"] is True


def test_a_diff_of_a_first_version_and_of_a_delete(oscd: Run) -> None:
    """What was not there has no lines."""
    oscd("set", "ends", "v", "-e", "prod")
    assert oscd("diff", "ends", "-e", "prod").output.splitlines()[0].endswith("(no version)")
    assert oscd("diff", "ends", "-e", "prod", "--json").document["from"] is None
    oscd("rm", "ends", "-e", "prod")
    lines = oscd("diff", "ends", "-e", "prod").output.splitlines()
    assert lines[1].endswith("(deleted)")
    assert lines[3:] == ["-v"]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["diff", "KEY", "1", "9"], 3),
        (["diff", "nothing"], 3),
        (["history", "nothing"], 3),
        (["rollback", "KEY", "--to", "9"], 3),
        (["rollback", "nothing", "--to", "1"], 3),
        (["diff", "KEY", "x"], 2),
        (["rollback", "KEY", "--to", "x"], 2),
        (["rollback", "KEY", "--to", "ATYwahKLTYekAm-0IH4"], 1),
    ],
)
def test_a_version_that_is_not_there(oscd: Run, key: str, command: list[str], status: int) -> None:
    """Not found, wrong usage and a position of another log are told apart."""
    arguments = [key if each == "KEY" else each for each in command]
    assert oscd(*arguments, "-e", "prod", fails=True).status == status


def test_a_rollback_is_a_new_version(oscd: Run, key: str) -> None:
    """Value and category come back under the next number; a value is not printed where nobody was asked."""
    done = oscd("rollback", key, "-e", "prod", "--to", "1")
    assert done.output == f"{key} in prod is now version 4, as it was in version 1.\n"
    told = oscd("get", key, "-e", "prod", "--json").document
    assert (told["value"], told["category"], told["version"]) == ("one\ntwo\nthree", "db", 4)
    position = oscd("history", key, "-e", "prod", "--json").documents[1]["position"]
    assert oscd("rollback", key, "-e", "prod", "--to", position, "--json").document["version"] == 5
    assert oscd("get", key, "-e", "prod", "--json").document["value"] == {"a": [2], "b": 1}


def test_a_rollback_brings_back_what_was_deleted(oscd: Run, key: str) -> None:
    """A deleted entry begins a new life with the value it had."""
    oscd("rm", key, "-e", "prod")
    oscd("rollback", key, "-e", "prod", "--to", "2")
    assert oscd("get", key, "-e", "prod").output == "one\n2\nthree\n"


def test_a_dry_run_shows_and_changes_nothing(oscd: Run, key: str) -> None:
    """It is the diff of what is with what would be."""
    done = oscd("rollback", key, "-e", "prod", "--to", "1", "--dry-run")
    assert "category: web → db" in done.output.splitlines()
    told = oscd("rollback", key, "-e", "prod", "--to", "3", "--dry-run", "--json").document
    assert (told["equal"], told["from"]["version"]) == (True, 3)
    assert len(oscd("history", key, "-e", "prod").output.splitlines()) == 3


def test_a_rollback_that_was_overtaken_does_nothing(
    oscd: Run, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who changes the entry between the look and the rollback wins; the status is that of a conflict."""
    rollback = Service.rollback

    def overtaken(self: Service, *arguments: str, **options: object) -> object:
        oscd("set", key, "faster", "-e", "prod")
        return rollback(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Service, "rollback", overtaken)
    assert oscd("rollback", key, "-e", "prod", "--to", "1", fails=True).status == 5
    assert oscd("get", key, "-e", "prod").output == "faster\n"


def test_another_user_key_rolls_nothing_back(oscd: Run, key: str) -> None:
    """Neither a rollback nor a comparison is for somebody else's key."""
    for arguments in (["rollback", key, "--to", "1"], ["diff", key], ["diff", key, "1"]):
        assert oscd(*arguments, "-e", "prod", fails=True, OSC_USER_KEY=OTHER_USER_KEY).status == 4
