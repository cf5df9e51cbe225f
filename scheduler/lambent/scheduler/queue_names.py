"""The broker's queues of a function's three lines. The uid stands in braces: the transport keeps queues of
one tag together, so that an item can be replaced by one on another line in one step."""

import re

from lambent.kernel.events import Line

UNREADABLE = "unreadable"  # where bytes go that are no item: kept, for somebody to look at
_QUEUE = re.compile(r"(?P<line>lane|outcomes|dead)\.\{(?P<lane>.+)\}")


def queue_of(line: Line, lane: str) -> str:
    """The broker's queue of a line of a lane."""
    return f"{line.value}.{{{lane}}}"


def parse_queue(queue: str) -> tuple[Line, str] | None:
    """(line, lane), or None for a queue that is no line."""
    found = _QUEUE.fullmatch(queue)
    return None if found is None else (Line(found["line"]), found["lane"])
