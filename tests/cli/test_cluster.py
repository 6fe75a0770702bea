"""`cluster status` and `cluster conflicts`: what a person and a script see of a cluster."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from oscd.cli.main import commands
from oscd.cli.redraw import Picture
from oscd.client.errors import Unreachable
from oscd.client.service import Service
from tests.cli.conftest import UNSET, Done
from tests.cli.terminal import terminal
from tests.client.answering import Script, answer, problem
from tests.client.test_cluster import HOLDS, MET, OFF, PEER, QUARANTINED, STATUS
from tests.support.node import RunningNode

SEEN = "2026-01-31T12:00:00.000000Z"
LIVE = PEER | {"state": "live", "lag_events": 0}

Run = Callable[..., Done]


@pytest.fixture
def oscd(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a node that answers with what it is given, in turn."""

    def run(*arguments: str, answers: list[Any]) -> Done:
        script = Script(*answers)
        monkeypatch.setattr("oscd.cli.session.Service", lambda target: Service(target, transport=script))
        environ: dict[str, str | None] = dict.fromkeys((*UNSET, "OSC_URL", "OSC_USER_KEY"))
        result = CliRunner().invoke(commands, ["cluster", *arguments], env=environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)

    return run


def test_the_nodes_are_lines_the_asked_one_first(oscd: Run) -> None:
    """Each with what is known of it; below, how many are healthy and whether they are in one state."""
    done = oscd("status", answers=[answer(STATUS), answer(HOLDS)])
    assert [line.split("\t") for line in done.output.splitlines()] == [
        ["node-a", "http://127.0.0.1:9000", "asked", "-", "-", "-", "3", "-", "-"],
        ["node-b", "b:9000", "catching_up", "7", "0.0s", "-0.250s", "-", SEEN, "-"],
        ["2 of 2 nodes healthy, not one state."],
    ]
    assert (done.status, done.errors) == (0, "")


def test_what_is_amiss_is_said_and_is_the_exit_status(oscd: Run) -> None:
    """An unhealthy node, a reason not to be ready, quarantined events: status 1, and what and why."""
    down = PEER | {"is_healthy": False, "state": "backing_off", "last_error": "connection refused\x1b[2J"}
    down |= dict.fromkeys(("lag_events", "lag_seconds", "skew_seconds", "last_seen"))
    status = STATUS | {"nodes": [down], "healthy_nodes": 1, "quarantined": [QUARANTINED]}
    status |= {"not_ready": ["b:9000 has not answered yet"]}
    done = oscd("status", answers=[answer(status), answer(HOLDS | {"all_nodes_synced": True})])
    _, line, *remarks = done.output.splitlines()
    assert line.split("\t")[2:] == [*("backing_off", "-", "-", "-", "-", "-"), "connection refused\\x1b[2J"]
    assert remarks == [
        "1 of 2 nodes healthy, one state.",
        "Not ready: b:9000 has not answered yet",
        f"Quarantined: events of node-c/{'c' * 16} from 9 on, of b:9000: a fork",
    ]
    assert done.status == 1


def test_a_node_in_another_state_is_named(oscd: Run) -> None:
    """It holds the same events, so waiting helps nobody: status 1, and what to do."""
    diverged = PEER | {"state": "live", "lag_events": 0, "has_diverged": True}
    answers = [answer(STATUS | {"nodes": [diverged]}), answer(HOLDS)]
    done = oscd("status", answers=answers)
    *_, remark = done.output.splitlines()
    assert (
        remark
        == "Diverged: node-b (b:9000) holds the same events in another state; run `oscd verify` on both"
    )
    assert done.status == 1
    told = json.loads(
        oscd("status", "--json", answers=[answer(STATUS | {"nodes": [diverged]}), answer(HOLDS)]).output
    )
    assert [node["has_diverged"] for node in told["nodes"]] == [False, True]


def test_a_node_alone_is_well(oscd: Run) -> None:
    """Where clustering is off there is one node, and that is said."""
    alone = HOLDS | {"nodes_distribution": HOLDS["nodes_distribution"][:1], "all_nodes_synced": True}
    done = oscd("status", answers=[answer(OFF), answer(alone)])
    assert done.output.splitlines() == [
        "node-a\thttp://127.0.0.1:9000\tasked\t-\t-\t-\t3\t-\t-",
        "Clustering is off on this node (OSC_CLUSTER_ENABLED).",
    ]
    assert done.status == 0


def test_a_status_is_one_document_for_machines(oscd: Run) -> None:
    """The members that the help names, this node among the nodes; the exit status is the same."""
    done = oscd("status", "--json", answers=[answer(STATUS | {"quarantined": [QUARANTINED]}), answer(HOLDS)])
    document = done.document
    assert done.status == 1
    assert (document["enabled"], document["node_id"], document["is_well"]) == (True, "node-a", False)
    assert (document["total_nodes"], document["healthy_nodes"], document["all_nodes_synced"]) == (2, 2, False)
    asked, other = document["nodes"]
    assert (asked["node_id"], asked["is_local"], asked["entries"]) == ("node-a", True, 3)
    assert other == {
        **{name: PEER[name] for name in PEER if name != "peer"},
        "is_local": False,
        "address": "b:9000",
        "entries": None,
    }
    assert set(asked) == set(other)
    assert (document["quarantined"], document["not_ready"]) == ([QUARANTINED], [])
    told = CliRunner().invoke(commands, ["cluster", "status", "--help"]).output
    for name in {*document, *other}:
        assert name in told, name


def test_a_node_that_does_not_answer_is_an_error(oscd: Run) -> None:
    """Nobody there is status 6, also of `--watch` where it never was; a wrong API key is 4."""
    for options in ([], ["--watch"]):
        assert oscd("status", *options, answers=[Unreachable("nobody there")]).status == 6
    assert oscd("status", answers=[problem(403, "X-API-Key: missing or wrong.")]).status == 4


def test_conflicts_are_lines_the_newest_first(oscd: Run) -> None:
    """What was lost, what was kept, whether two owners met, and the position that brings it back."""
    ours = MET | {"key": "other", "foreign_key": False}
    done = oscd("conflicts", "-n", "2", answers=[answer({"conflicts": [MET, ours], "total": 2})])
    assert [line.split("\t") for line in done.output.splitlines()] == [
        [SEEN, "k", "prod", "v2 updated node-b", "v2 updated node-a", "foreign", "A2"],
        [SEEN, "other", "prod", "v2 updated node-b", "v2 updated node-a", "-", "A2"],
    ]
    documents = oscd("conflicts", "--json", answers=[answer({"conflicts": [MET], "total": 1})]).documents
    assert documents == [MET]
    assert oscd("conflicts", "-n", "1001", answers=[]).status == 2


class Node(BaseHTTPRequestHandler):
    """A node that tells what a test says, while it does."""

    documents: dict[str, Any]

    def do_GET(self) -> None:
        document = self.documents.get(self.path.partition("?")[0])
        content = json.dumps(document or {"status": 503, "detail": "The node is shutting down."}).encode()
        self.send_response(200 if document else 503)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def telling(documents: dict[str, Any]) -> Iterator[str]:
    """The address of a node that tells these documents, as they are when it is asked."""
    handler = type("Handler", (Node,), {"documents": documents})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_terminal_is_drawn_on_in_place() -> None:
    """Heads, colours; each second anew where it stood; a node that stops answering is waited for; Ctrl-C ends it."""
    documents: dict[str, Any] = {"/cluster/status": STATUS, "/cluster/distribution": HOLDS}
    oscd = str(Path(sys.executable).parent / "oscd")
    with telling(documents) as url:
        environ = {
            "PATH": os.environ["PATH"],
            "OSC_URL": url,
            "TERM": "xterm",
            "COLUMNS": "200",
            "LINES": "24",
        }
        with terminal([oscd, "cluster", "status", "--watch"], environ) as shown:
            shown.await_text("not one state.")
            assert re.search(r"NODE +ADDRESS +STATE +LAG +BEHIND +SKEW +ENTRIES", shown.shown)
            assert re.search(r"\x1b\[33mnode-b +b:9000 +catching_up +7 ", shown.shown)
            documents["/cluster/status"] = STATUS | {"nodes": [LIVE]}
            shown.await_text("\x1b[4F\x1b[J")
            shown.await_text("\x1b[32mnode-b")
            documents["/cluster/distribution"] = None
            shown.await_text("That was before: The node is shutting down.")
            documents["/cluster/distribution"] = HOLDS | {"all_nodes_synced": True}
            shown.await_text("\x1b[5F\x1b[J")
            shown.await_text("healthy, one state.")
            assert shown.interrupt() == 130
            assert "Traceback" not in shown.shown


def test_a_terminal_that_is_small_is_not_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines are cut where they would wrap, and those that do not fit are left out, so that the next picture fits."""
    monkeypatch.setattr("oscd.cli.redraw.is_terminal", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((6, 3)))
    picture = Picture()
    picture.draw([("0123456789", None), ("ab", None), ("left out", None)])
    picture.draw([("second", None)])
    assert capsys.readouterr().out == "01234\nab\n\x1b[2F\x1b[Jsecon\n"


def test_watching_into_a_file_is_plain_lines() -> None:
    """A picture after the other; with `--json` a document a line; what is amiss is said beside, once."""
    documents: dict[str, Any] = {"/cluster/status": STATUS, "/cluster/distribution": HOLDS}
    with telling(documents) as url:
        looks: list[None] = []

        def pause(_seconds: float) -> None:
            looks.append(None)
            documents["/cluster/status"] = None if len(looks) in {2, 3} else STATUS
            if len(looks) == 5:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oscd.cli.cluster.time", SimpleNamespace(sleep=pause))
            ran = CliRunner().invoke(
                commands, ["cluster", "status", "--watch", "--json"], env={"OSC_URL": url}
            )
    assert [json.loads(line)["node_id"] for line in ran.stdout.splitlines()] == ["node-a"] * 3
    assert ran.stderr.count("The node is shutting down.; waiting for it to go on") == 1


def test_a_real_node_is_understood(shared_node: RunningNode) -> None:
    """What a node without a cluster tells: that it is alone, and no conflict."""
    environ = dict.fromkeys(UNSET) | {"OSC_URL": shared_node.base_url}
    told = CliRunner().invoke(commands, ["cluster", "status", "--json"], env=environ)
    document = json.loads(told.stdout)
    assert (told.exit_code, document["enabled"], document["all_nodes_synced"]) == (0, False, True)
    (node,) = document["nodes"]
    assert (node["node_id"], node["is_local"], type(node["entries"])) == ("tested", True, int)
    told = CliRunner().invoke(commands, ["cluster", "conflicts"], env=environ)
    assert (told.exit_code, told.output) == (0, "")
