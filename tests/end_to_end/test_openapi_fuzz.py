"""The service fuzzed from its own OpenAPI document: no 5xx, and no answer the document does not have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import SystemRandom

from oscd.api.guard import EVENTS_PATH, STREAM_PATH
from oscd.events.cipher import SALT_BYTES
from tests.conftest import StartNode
from tests.support.node import USER_KEY
from tests.support.waiting import wait_until

API_KEY = "an-api-key-for-fuzzing"
MOST_SECONDS = 30
# What the node answers must be in its document. Whether it should have refused is tested case by case elsewhere:
# a duplicate create is 400 by contract, which a fuzzer takes for valid input refused.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_no_request_the_document_allows_or_forbids_is_a_server_error(
    start_node: StartNode, tmp_path: Path
) -> None:
    """Valid, invalid and chained requests, drawn from `/openapi.json`, all get answers that it describes.

    But for the streams, which have no end: each would take the fuzzer its whole patience. They are judged elsewhere.
    """
    directory = tmp_path / "node"
    directory.mkdir()
    (directory / "encryption.salt").write_bytes(os.urandom(SALT_BYTES))
    (directory / "encryption.salt").chmod(0o600)
    # One key for callers and nodes, so that the fuzzer reaches what either may.
    node = start_node(
        directory=directory,
        OSC_WORKERS="2",
        OSC_API_KEY_REQUIRED="true",
        OSC_API_KEY=API_KEY,
        OSC_CLUSTER_ENABLED="true",
        OSC_CLUSTER_KEY=API_KEY,
    )
    with node.client() as client:
        wait_until(lambda: client.get("/ready").status_code == 200, what="a node that is ready")
    seed = SystemRandom().randrange(2**32)
    print(f"seed: {seed}")
    fuzzer = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{node.base_url}/openapi.json"),
            *("--url", node.base_url, "--seed", str(seed), "--max-examples", "20"),
            *("--max-time", str(MOST_SECONDS), "--checks", ",".join(CHECKS), "--continue-on-failure"),
            *("--exclude-path", STREAM_PATH, "--exclude-path", EVENTS_PATH),
            *("-H", f"X-User-Key: {USER_KEY}", "-H", f"X-API-Key: {API_KEY}"),
            *("--generation-with-security-parameters", "false", "--generation-database", "none"),
            *("--no-color", "--warnings", "off"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3 * MOST_SECONDS,
        check=False,
    )
    assert fuzzer.returncode == 0, fuzzer.stdout + fuzzer.stderr
    counted = re.search(r"Selected: (\d+)/(\d+)\n +Tested: \1\n", fuzzer.stdout)
    assert counted, fuzzer.stdout
    assert int(counted[1]) == int(counted[2]) - 2, fuzzer.stdout
    assert '"status":500' not in node.output
    assert '"level":"error"' not in node.output
