"""The queues of a function on a broker without a step of its own for delays: one per line, and beside a line
those in which items wait, one for each length of wait that was ever needed.

A queue of waits has one time to live for all that is in it, because a broker looks at the head only: with
mixed times a short wait would stand behind a long one. Any delay is a sum of steps.
"""

import re
from typing import NamedTuple

from lambent.kernel.events import Line

PREFIX = "lambent."
REGISTER = "lambent.register"  # a queue with the name of each queue, and the exchange that announces new ones
CRADLE = "lambent.cradle"  # where messages for a queue lie that is too new to keep them
UNREADABLE = "lambent.unreadable"  # where bytes go that are no item: kept, for somebody to look at
# Milliseconds. Doubling twice over, so that AWS's waits of one and two minutes are one step each.
STEPS = tuple(125 << n for n in range(7)) + tuple(15_000 << n for n in range(11))
_QUEUE = re.compile(r"lambent\.(?:wait-(?P<step>\d+)\.)?(?P<line>lane|outcomes|dead)\.\{(?P<lane>.+)\}")


class Place(NamedTuple):
    """A line, or (`step`, in ms) the queue beside it whose items come to the line after so long."""

    line: Line
    lane: str
    step: int = 0

    @property
    def queue(self) -> str:
        """Its name here; the broker's has the installation in it."""
        wait = f"wait-{self.step}." if self.step else ""
        return f"{PREFIX}{wait}{self.line.value}.{{{self.lane}}}"


def parse(queue: str) -> Place | None:
    """None: the queue is not one of a function."""
    found = _QUEUE.fullmatch(queue)
    return None if found is None else Place(Line(found["line"]), found["lane"], int(found["step"] or 0))


def step_of(seconds: float) -> int:
    """The step to wait first for a delay; 0: no time to wait. Rounded up, so that the sum is never early."""
    left = -int(-seconds * 1000 // STEPS[0]) * STEPS[0]
    return max((step for step in STEPS if step <= left), default=0)
