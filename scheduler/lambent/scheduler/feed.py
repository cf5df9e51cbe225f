"""The one loop that reads the queue: lanes run what it brings, outcomes carry it to its targets. It asks both
for their room, so that nothing is read that nobody can take."""

import asyncio
from collections.abc import Sequence

from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Room
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock, Delivery, EventQueue
from lambent.scheduler.lanes import Lanes
from lambent.scheduler.outcomes import Outcomes

_log = Log(__name__)
_WAIT_SECONDS = 30.0
_OUTAGE_SECONDS = 1.0


class Feed:
    """Run `run` under `Tasks.forever`."""

    def __init__(self, *, queue: EventQueue, lanes: Lanes, outcomes: Outcomes, clock: Clock) -> None:
        self._queue = queue
        self._lanes = lanes
        self._outcomes = outcomes
        self._clock = clock
        self._stopping = False

    async def run(self) -> None:
        """Reads and hands out until `stop`, then rests until cancelled."""
        while not self._stopping:
            try:
                deliveries = await self._queue.consume(self._room(), wait=_WAIT_SECONDS)
            except EventQueueUnavailable as error:
                _log.warning("The event queue cannot be read; trying again.", error=str(error))
                await self._clock.sleep(_OUTAGE_SECONDS)
                continue
            if self._stopping:
                await self._hand_back(deliveries)
            else:
                self._hand_out(deliveries)
        # Its end would be the death of a task that runs forever: whoever stopped it drains the tasks too.
        await asyncio.get_running_loop().create_future()

    def _room(self) -> Room:
        lanes, other_lanes = self._lanes.room()
        outcomes, other_outcomes = self._outcomes.room()
        return Room(lanes, outcomes, other_lanes=other_lanes, other_outcomes=other_outcomes)

    def _hand_out(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.outcome is None:
                self._lanes.take(delivery)
            else:
                self._outcomes.take(delivery, delivery.outcome)

    async def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        """Makes what was read just before the stop ready for the next reader, all at once."""
        steps = (self._queue.replace(delivery, [delivery.outcome or delivery.event]) for delivery in deliveries)
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, EventQueueUnavailable):
                raise failure
        if failures:
            _log.info("Events that were read at the stop come again after a restart.", events=len(failures))

    async def stop(self) -> None:
        """Reads no more, and waits for what was taken; the caller bounds it. What is cut off is delivered
        again."""
        self._stopping = True
        self._queue.wake()
        await asyncio.gather(self._lanes.stop(), self._outcomes.stop())
