"""Another function: an invocation record as an asynchronous event of it, which has retries and destinations
of its own."""

import uuid
from collections.abc import Awaitable, Callable

from lambent.kernel import metrics
from lambent.kernel.arn import LATEST, version_number
from lambent.kernel.errors import LambdaError
from lambent.kernel.events import OutcomeRecord
from lambent.kernel.models import Event, Function
from lambent.kernel.ports import Clock, EventQueue
from lambent.kernel.targets import Target
from lambent.scheduler.destinations.base import DeliveryFailed, FunctionArn
from lambent.scheduler.destinations.record import invocation_record, trace

_MAX_BYTES = 1_048_576


class FunctionDestination:
    """`look(name)` asks the store; `function_arn(record)`: the qualified ARN of the function that ran."""

    def __init__(
        self,
        *,
        queue: EventQueue,
        look: Callable[[str], Awaitable[Function | None]],
        clock: Clock,
        function_arn: FunctionArn,
    ) -> None:
        self._queue = queue
        self._look = look
        self._clock = clock
        self._function_arn = function_arn

    async def __call__(self, record: OutcomeRecord, target: Target) -> None:
        """Raises DeliveryFailed."""
        arn = self._function_arn(record)
        try:
            function = await self._look(target.name)
            if function is None or not _has(function, target.qualifier):
                raise DeliveryFailed(f"Function not found: {target.arn}")
            await self._queue.publish(
                Event(
                    request_id=str(uuid.uuid4()),
                    lane=function.uid,
                    function=function.name,
                    payload=invocation_record(record, arn, most=_MAX_BYTES).encode(),
                    accepted=self._clock.now(),
                    qualifier=target.qualifier,
                    trace_id=trace(record, arn),
                    source="destination",
                )
            )
        except LambdaError as failure:
            raise DeliveryFailed(failure.message) from failure
        metrics.events_received.labels(metrics.function_label(function.name)).inc()


def _has(function: Function, qualifier: str | None) -> bool:
    """Whether there is such an alias, or was such a version: a deleted one ends the event when it runs."""
    if qualifier in (None, LATEST) or qualifier in function.aliases:
        return True
    number = version_number(qualifier)
    return number is not None and number <= function.last_version
