"""destinations/function.py: an outcome becomes an event of another function, or of its version or alias."""

import json
from dataclasses import replace
from typing import cast

import pytest
from unit.scheduler.samples import event, function

from lambent.kernel.clock import TestClock
from lambent.kernel.events import Condition, Ending, OutcomeRecord
from lambent.kernel.models import Alias, Event, Function
from lambent.kernel.ports import EventQueue
from lambent.kernel.targets import parse_target
from lambent.scheduler.destinations.base import DeliveryFailed
from lambent.scheduler.destinations.function import FunctionDestination

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000:function"
TARGET = replace(function("g", uid="uid-g"), aliases={"live": Alias("live", "1", "r")}, last_version=2)
RECORD = OutcomeRecord(event(), Ending(Condition.SUCCESS, at=1.0, attempts=1), "arn", dead_letter=False)


class Queue:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, sent: Event) -> None:
        self.events.append(sent)


async def deliver(arn: str) -> list[Event]:
    async def look(name: str) -> Function | None:
        return TARGET if name == "g" else None

    queue = Queue()
    destination = FunctionDestination(
        queue=cast(EventQueue, queue),
        look=look,
        clock=TestClock(),
        function_arn=lambda record: f"{ACCOUNT}:f:live",
    )
    target = parse_target(arn)
    assert target is not None
    await destination(RECORD, target)
    return queue.events


@pytest.mark.parametrize("qualifier", [None, "$LATEST", "1", "2", "live"])
async def test_the_event_is_of_the_qualifier_that_the_destination_names(qualifier: str | None) -> None:
    (sent,) = await deliver(f"{ACCOUNT}:g" + (f":{qualifier}" if qualifier else ""))
    assert (sent.lane, sent.function, sent.qualifier, sent.source) == ("uid-g", "g", qualifier, "destination")
    assert json.loads(sent.payload)["requestContext"]["functionArn"] == f"{ACCOUNT}:f:live"


@pytest.mark.parametrize("named", ["h", "g:3", "g:gone", "g:0", "g:01"])
async def test_what_is_not_there_does_not_take_it(named: str) -> None:
    with pytest.raises(DeliveryFailed, match=f"Function not found: {ACCOUNT}:{named}$"):
        await deliver(f"{ACCOUNT}:{named}")
