"""What compose.yaml describes works: its nodes, its nginx and its Prometheus, run as plain processes.

The files are those that are shipped; only names, ports and paths are others (`compose/shipped.py`).
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from compose.dashboard import dashboard, metrics_of, queries
from compose.drawing import dashboard_svg
from compose.picture import values_of
from compose.shipped import FOLDER, NODES
from compose.stack import Stack
from tests.compose.rolling import ENVIRONMENT, Load
from tests.compose.through_nginx import Caller, Listener
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def caller(stack: Stack, trial: Path) -> Caller:
    return Caller(stack, trial)


def test_what_is_written_through_nginx_is_on_every_node(stack: Stack, caller: Caller) -> None:
    """Each node has it, under the key as it was sent, and answers through nginx for what another one took."""
    with caller.client() as client:
        created = client.post("/configs", json={"key": "a//b/c", "environment": "spread", "value": {"x": 1}})
        assert created.status_code == 201
        after = {"X-OSC-After": created.headers["X-OSC-Position"]}
        for _ in NODES:
            assert client.get("/configs/a%2F/b/c?environment=spread", headers=after).json()["value"] == {
                "x": 1
            }
    for node in NODES:
        with caller.client(node) as client:
            assert client.get("/configs/a//b/c?environment=spread", headers=after).json()["value"] == {"x": 1}
            status = client.get("/cluster/status").json()
            assert {peer["node_id"] for peer in status["nodes"]} == {*NODES} - {node}
    answered = re.findall(r" GET /configs/\S+ 200 .*:(\d+)$", stack.output_of("nginx"), re.MULTILINE)
    assert {int(port) for port in answered} == {stack.ports[node] for node in NODES}


def test_a_node_knows_who_asked_nginx(stack: Stack) -> None:
    """The address of the caller is in the log of the node, and what it says of itself in a header is not."""
    from_elsewhere = httpx.HTTPTransport(verify=stack.trust, trust_env=False, local_address="127.0.0.77")
    with httpx.Client(base_url=stack.url("nginx"), transport=from_elsewhere) as client:
        asked = client.get(
            "/stats", headers={"X-Forwarded-For": "192.0.2.1", "X-Request-ID": "who-asked-this"}
        )
    assert asked.status_code == 403, "the nodes ask for the API key"

    def line() -> str | None:
        said = "".join(map(stack.output_of, NODES)).splitlines()
        return next((line for line in said if '"request_id":"who-asked-this"' in line), None)

    assert orjson.loads(wait_until(line, what="the line of the request"))["client"] == "127.0.0.77"


def test_what_only_nodes_and_prometheus_ask_is_not_to_be_had(
    stack: Stack, caller: Caller, trial: Path
) -> None:
    """Not under another spelling, and not with the key that nodes have; the nodes themselves answer."""
    cluster_key = {"X-API-Key": (trial / "cluster-key").read_text().strip()}
    for path in ("/metrics", "/cluster/salt", "/cluster/events"):
        with caller.client() as client, caller.client("node-1") as node:
            for spelling in (path, f"{path}?after=", path.replace("t", "%74"), f"/x/%2e%2e{path}"):
                asked = client.get(f"{stack.url('nginx')}{spelling}", headers=cluster_key)
                assert asked.status_code == 404, asked.url
            # No such path, and a node wants an API key before it says so.
            asked = client.get(f"{stack.url('nginx')}/{path}", headers=cluster_key)
            assert asked.status_code == 403, asked.url
            with node.stream("GET", path, headers=cluster_key) as answer:
                assert answer.status_code != 404


def test_large_bodies_go_to_an_import_alone(caller: Caller) -> None:
    """A node judges what is imported, and who imports, before it has all of it; other bodies end at 1 MiB."""
    password = {"X-Backup-Password": "a-password-of-a-backup"}
    large = {"backup_data": "A" * (3 << 20), "overwrite": False}
    with caller.client() as client:
        judged = client.post("/import", json=large, headers=password)
        assert (judged.status_code, judged.headers["Content-Type"]) == (400, "application/problem+json")
        refused = client.post("/import", json=large, headers=password | {"X-API-Key": "another"})
        assert refused.status_code == 403
        value = {"key": "large", "environment": "bodies", "value": "A" * 1_000_000}
        assert client.post("/configs", json=value).status_code == 201
        value["value"] = "A" * (2 << 20)
        assert client.post("/configs", json=value).status_code == 413


def test_nodes_and_nginx_are_known_by_the_authority_alone(stack: Stack) -> None:
    """A client that does not trust it gets no connection to any of them."""
    for service in (*NODES, "nginx"):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{stack.url(service)}/health", verify=ssl.create_default_context(), trust_env=False)
        assert (
            httpx.get(f"{stack.url(service)}/health", verify=stack.trust, trust_env=False).status_code == 200
        )


def test_a_stream_through_nginx_is_live_and_its_ticket_in_no_log(stack: Stack, caller: Caller) -> None:
    """Each change is heard before the next is made; nginx logs the path of the stream, and no query at all."""
    with caller.client() as client:
        ticket = client.post("/sse/tickets", json={"environment": "live"}).json()["ticket"]
        with Listener(stack, f"ticket={ticket}", {}).connected() as heard:
            assert next(heard)[0] == "connected"
            for number in range(3):
                written = client.post(
                    "/configs", json={"key": f"k{number}", "environment": "live", "value": number}
                )
                assert written.status_code == 201
                event, data = next(heard)
                assert (event, data["key"], data["data"]) == ("created", f"k{number}", None)
        client.get("/configs?environment=live&category=nothing-to-log")
    wait_until(lambda: "GET /sse/subscribe 200 " in stack.output_of("nginx"), what="the line of the stream")
    for service in (*NODES, "nginx"):
        assert ticket not in stack.output_of(service)
        assert "nothing-to-log" not in stack.output_of(service)
    assert "?" not in stack.output_of("nginx")


def test_prometheus_has_every_node_and_every_rule(stack: Stack) -> None:
    """All targets are up over HTTPS, the rules that are shipped are loaded and healthy, and none of them fires."""

    def up() -> bool:
        result = stack.ask_prometheus("query", query='up{job="oscd"} == 1')["result"]
        return len(result) == len(NODES)

    wait_until(up, PATIENCE, what="three targets that are up")
    groups = yaml.safe_load((FOLDER / "prometheus" / "rules.yaml").read_text())["groups"]
    shipped = {rule["alert"] for group in groups for rule in group["rules"]}

    def loaded() -> dict[str, str]:
        groups = stack.ask_prometheus("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    assert loaded().keys() == shipped
    wait_until(lambda: set(loaded().values()) == {"ok"}, PATIENCE, what="rules that were evaluated")
    # Those, too, that would fire after a while; a link that is just being made is one for seconds. That of refusals
    # may be one for minutes, after the test that restarts nodes.
    near = 'ALERTS{alertname!="OscdServerErrors"} or ALERTS{alertstate="firing"}'
    wait_until(lambda: not stack.ask_prometheus("query", query=near)["result"], what="no alert to be near")
    links = stack.ask_prometheus("query", query="osc_replication_link_up == 1")["result"]
    assert len(links) == len(NODES) * (len(NODES) - 1), "no node has a link to itself"


def test_every_metric_of_a_panel_or_rule_is_shown_by_a_node(stack: Stack, caller: Caller) -> None:
    """Each name is on `/metrics` of a node of the cluster, and each query of the dashboard finds something."""
    with caller.client() as client:
        client.post("/configs", json={"key": "counted", "environment": "metrics", "value": 1})
        client.get("/configs/absent?environment=metrics")
    rules = yaml.safe_load((FOLDER / "prometheus" / "rules.yaml").read_text())["groups"]
    asked = [(expression, True) for _, expression, _ in queries(dashboard(), "10s")]
    asked += [(rule["expr"], False) for group in rules for rule in group["rules"]]
    named = set().union(*(metrics_of(expression) for expression, _ in asked))
    assert len(named) > 15
    text = httpx.get(f"{stack.url('node-1')}/metrics", verify=stack.trust, trust_env=False).text
    there = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    assert named <= there, named - there
    uses = set(re.findall(r'osc_certificate_expiry_timestamp_seconds\{use="(\w+)"\}', text))
    assert uses == {"serving", "peers"}
    for expression, finds in asked:
        wait_until(
            lambda: stack.ask_prometheus("query", query=expression)["result"] or not finds,  # noqa: B023
            what=expression,
        )


def test_the_picture_is_drawn_from_what_prometheus_has(stack: Stack) -> None:
    """As it is for the documentation: lines under the names of compose.yaml, and no port of this machine."""
    document, begin = dashboard(), time.time() - 30

    def drawn() -> str | None:
        values = values_of(stack, document, begin, time.time())
        known = any(line.points for lines in values.values() for line in lines)
        return dashboard_svg(document, values, begin, time.time()) if known else None

    svg = wait_until(drawn, what="a picture with a line in it")
    assert "<polyline" in svg
    assert "node-1 worker 0" in svg
    assert "127.0.0.1" not in svg


def test_health_checks_pass_and_notice_an_end(stack: Stack) -> None:
    """Those of nodes and nginx, as Docker runs them, at the ports of this test; elsewhere nobody is healthy."""
    for service in (*NODES, "nginx"):
        marker, *command = stack.shipped.service(service)["healthcheck"]["test"]
        assert marker == "CMD"
        placed = [stack.shipped.placed(service, part) for part in command]
        for port, is_healthy in ((stack.ports[service], True), (1, False)):
            url = re.sub(r":\d+/", f":{port}/", placed[-1])
            done = subprocess.run([*placed[:-1], url], capture_output=True, text=True, check=False)
            assert (done.returncode == 0) is is_healthy, done.stderr


def test_what_the_page_says_can_be_pasted(stack: Stack, trial: Path) -> None:
    """The commands of compose/README.md for the first minutes, with the port and the directory of this test."""
    (pasted,) = [
        block
        for block in re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
        if "oscd set" in block
    ]
    assert "docker" not in pasted
    script = pasted.replace("https://localhost:8443", f"https://localhost:{stack.ports['nginx']}")
    done = subprocess.run(
        ["bash", "-euxc", script.replace("compose/secrets", str(trial))],
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(trial)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for shown in ("hello", "of 3 nodes healthy", '{"status":"healthy","node_id":"node-'):
        assert shown in done.stdout


def test_a_rolling_restart_costs_nobody_anything(stack: Stack, caller: Caller) -> None:
    """Each node is restarted under load: no call fails that a retry does not save, and no change is missed.

    What was acknowledged is on every node afterwards, and each listener, one by header and one by ticket, has heard
    of it once, though its stream was cut by the restart of the node it was on.
    """
    with caller.client() as client:
        ticket = client.post("/sse/tickets", json={"environment": ENVIRONMENT}).json()["ticket"]
    listeners = [
        Listener(stack, f"environment={ENVIRONMENT}", caller.headers),
        Listener(stack, f"ticket={ticket}", {}),
    ]
    load = Load(caller, listeners)
    with load.running():
        for node in NODES:
            before = len(load.acknowledged), load.reads
            stack.stop(node)
            stack.start_nodes(node)
            assert len(load.acknowledged) > before[0], f"nothing was written while {node} was away"
            assert load.reads > before[1]
    told = f"{len(load.acknowledged)} writes, {load.reads} reads, calls by tries {dict(load.tries)}"
    print(told, [listener.connections for listener in listeners])
    assert load.refused == [], told
    assert load.resets == 0
    assert all(listener.connections > 1 for listener in listeners), "no stream was cut"
    for heard in load.heard:
        assert {key for key in load.acknowledged if key not in heard} == set(), told
        assert {key: count for key, count in heard.items() if count > 1} == {}, told
    load.await_everywhere()
    assert ticket not in stack.output_of("nginx")
