"""The extensions of one environment: who has registered, for what, and who waits for its next event. No I/O:
what they are told goes to whoever waits. AWS: "Lambda Extensions API".
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambent.executor.runtime_api import Answer, Waiting, refusal
from lambent.kernel.models import Invocation

INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"
MAX_EXTENSIONS = 10
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Extension:
    """One that has registered. `external`: a process of its own; `ready`: it has asked for an event once;
    `due`: an event that came while it was busy, which it gets when it asks for the next."""

    __slots__ = ("due", "events", "external", "gone", "id", "name", "ready", "waiting")

    def __init__(self, name: str, events: frozenset[str], *, external: bool) -> None:
        self.id = str(uuid.uuid4())
        self.name = name
        self.events = events
        self.external = external
        self.ready = self.gone = False
        self.waiting: Waiting | None = None
        self.due: bytes | None = None

    def wait(self, waiting: Waiting) -> None:
        """It asks for its next event."""
        self.waiting, self.ready = waiting, True
        due, self.due = self.due, None
        if due is not None:
            self.give(due)

    def give(self, event: bytes) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            self.due = event
        else:
            waiting.give(b"lambda-extension-event-identifier: %b\r\n" % str(uuid.uuid4()).encode(), event)


class Extensions:
    """Of one start of a runtime. `external`: the names of the processes that are started beside it."""

    def __init__(self, external: Sequence[str] = ()) -> None:
        self._expected = set(external)
        self._by_id: dict[str, Extension] = {}
        self.closed = False
        """Init is over: nobody registers any more."""

    def __bool__(self) -> bool:
        """Whether there are any, or any are to come."""
        return bool(self._expected or self._by_id)

    def __iter__(self) -> Iterator[Extension]:
        return iter(self._by_id.values())

    @property
    def external(self) -> bool:
        """Whether one is a process of its own."""
        return bool(self._expected) or any(each.external for each in self._by_id.values())

    @property
    def registered(self) -> bool:
        """Whether all that are processes of their own have."""
        return not self._expected

    @property
    def settled(self) -> bool:
        """Whether all have registered and wait: init is over for them."""
        return self.registered and all(each.waiting is not None for each in self._by_id.values())

    @property
    def busy(self) -> bool:
        """Whether one still works on an invocation."""
        return any(
            each.waiting is None and not each.gone for each in self._by_id.values() if INVOKE in each.events
        )

    @property
    def invoked(self) -> bool:
        """Whether any works on invocations at all."""
        return any(INVOKE in each.events for each in self._by_id.values())

    def register(self, name: str, document: Any) -> Extension | Answer:
        """Or why not."""
        if self.closed:
            return refusal(403, "Extension.RegistrationClosed", "Extensions can register during init only.")
        if not _NAME.fullmatch(name):
            return refusal(
                400, "Extension.InvalidExtensionName", "The header Lambda-Extension-Name names nothing."
            )
        if len(self._by_id) >= MAX_EXTENSIONS:
            return refusal(
                403, "Extension.TooManyExtensions", f"At most {MAX_EXTENSIONS} extensions can register."
            )
        if any(each.name == name for each in self._by_id.values()):
            return refusal(403, "Extension.AlreadyRegistered", f"The extension {name} has registered.")
        events = document.get("events", []) if isinstance(document, dict) else None
        if not isinstance(events, list):
            return refusal(400, "InvalidRequestFormat", "The body must be an object with a list of events.")
        external = name in self._expected
        allowed = {INVOKE, SHUTDOWN} if external else {INVOKE}
        if any(not isinstance(event, str) or event not in allowed for event in events):
            return refusal(
                400,
                "Extension.InvalidEventType",
                f"{name} can register for {' and '.join(sorted(allowed))} only.",
            )
        made = Extension(name, frozenset(events), external=external)
        self._by_id[made.id] = made
        self._expected.discard(name)
        return made

    def of(self, header: bytes | None) -> Extension | Answer:
        """Who calls, by its identifier; or what is wrong with that."""
        if not header:
            return refusal(
                403, "Extension.MissingExtensionIdentifier", "Lambda-Extension-Identifier is missing."
            )
        text = header.decode("latin-1")
        try:
            uuid.UUID(text)
        except ValueError:
            return refusal(403, "Extension.InvalidExtensionIdentifier", "The identifier is no UUID.")
        found = self._by_id.get(text)
        if found is None:
            return refusal(
                403, "Extension.UnknownExtensionIdentifier", "Nobody registered with this identifier."
            )
        return found

    def named(self, name: str) -> Extension | None:
        return next((each for each in self._by_id.values() if each.name == name), None)

    def hung_up(self, waiting: object) -> None:
        """A connection ended; who waited on it waits no more."""
        for each in self._by_id.values():
            if each.waiting is waiting:
                each.waiting = None

    def invoke(self, invocation: Invocation, deadline_ms: int) -> None:
        """Gives the invocation to all that registered for it."""
        event = {
            "eventType": INVOKE,
            "deadlineMs": deadline_ms,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.invoked_arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id},
        }
        self._give(INVOKE, event)

    def shut_down(self, reason: str, deadline_ms: int) -> None:
        """Gives the end to all that registered for it. `reason`: spindown, timeout or failure."""
        self._give(SHUTDOWN, {"eventType": SHUTDOWN, "shutdownReason": reason, "deadlineMs": deadline_ms})

    @property
    def ending(self) -> bool:
        """Whether one that was told of the end still lives."""
        return any(SHUTDOWN in each.events and not each.gone for each in self._by_id.values())

    def _give(self, kind: str, event: Mapping[str, Any]) -> None:
        payload = json.dumps(event).encode()
        for each in self._by_id.values():
            if kind in each.events and not each.gone:
                each.give(payload)
