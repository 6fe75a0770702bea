"""Owns the calls that tell what the node has counted: `/metrics` for Prometheus, `/stats/operations` for people.

Must not count anything, nor know where the counters are.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from quart import Response

from oscd.api.answers import NO_STORE, json_answer
from oscd.api.call import Call, Handler
from oscd.api.models import EncryptionOperations, OperationStatistics, ReadOperations, WriteOperations
from oscd.api.openapi import Answer, Operation
from oscd.errors import Forbidden, Unavailable
from oscd.metrics.counters import READ_OUTCOMES, WRITE_OUTCOMES, route_of
from oscd.metrics.exposition import CONTENT_TYPE, Exposition

_HEADERS = ("X-Request-ID",)
METRICS = Operation(
    "GET",
    "/metrics",
    "What the node has counted, all workers together, for Prometheus",
    {200: Answer("The metrics", None, _HEADERS, media_type=CONTENT_TYPE)},
    refusals=(Unavailable,),
)
OPERATIONS = Operation(
    "GET",
    "/stats/operations",
    "What the node has done since it was started, all workers together",
    {200: Answer("The counts", OperationStatistics, _HEADERS)},
    refusals=(Forbidden, Unavailable),
    api_key=True,
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The handlers, over the counters of one node."""

    exposition: Exposition

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [(METRICS, self.metrics), (OPERATIONS, self.operations)]

    async def metrics(self, _call: Call) -> Response:
        """`GET /metrics`."""
        return Response(await self.exposition.text(), content_type=CONTENT_TYPE, headers=dict([NO_STORE]))

    async def operations(self, _call: Call) -> Response:
        """`GET /stats/operations`."""
        totals = await self.exposition.totals()
        reads = totals.by_label("osc_config_read_operations_total", "status")
        values = totals.by_label("osc_encryption_operations_total", "operation")
        statistics = OperationStatistics(
            read_operations=ReadOperations(**{outcome: int(reads[outcome]) for outcome in READ_OUTCOMES}),
            write_operations=WriteOperations(
                **{
                    f"{operation}_{outcome}": int(
                        totals.value("osc_config_write_operations_total", operation=operation, status=outcome)
                    )
                    for operation, outcomes in WRITE_OUTCOMES.items()
                    for outcome in outcomes
                }
            ),
            encryption_operations=EncryptionOperations(
                encrypt=int(values["encrypt"]), decrypt=int(values["decrypt"])
            ),
            total_http_requests={
                f"{labels['method']}_{route_of(labels['endpoint'])}_{labels['status_code']}": int(count)
                for labels, count in totals.samples.get("osc_http_requests_total", ())
            },
        )
        return json_answer(orjson.dumps(statistics.model_dump()), store=False)
