"""Rows reach a table all of them and in their order, however many they are."""

from __future__ import annotations

import sqlite3

import pytest

from oscd.events.sqlite import rows


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 149])
def test_every_row_is_there_in_order(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT)")
    wanted = [(number, f"text {number}") for number in range(1, count + 1)]
    rows.insert(connection, "INSERT INTO t (number, text)", wanted)
    assert connection.execute("SELECT * FROM t ORDER BY number").fetchall() == wanted


def test_the_last_of_two_rows_of_a_key_stays() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT)")
    rows.insert(
        connection,
        "INSERT OR REPLACE INTO t (number, text)",
        [(number % 60, str(number)) for number in range(120)],
    )
    assert connection.execute("SELECT count(*), min(CAST(text AS INTEGER)) FROM t").fetchone() == (60, 60)
