"""Functions and events for the scheduler's tests."""

from dataclasses import replace

from lambent.kernel.models import Archive, Event, Function, FunctionVersion


def function(
    name: str = "f", *, uid: str = "uid", reserved: int | None = None, generation: int = 1
) -> Function:
    version = FunctionVersion(
        name=name,
        uid=uid,
        version="$LATEST",
        generation=generation,
        revision_id="r",
        runtime="python3.11",
        handler="app.handler",
        role="role",
        archive=Archive("00" * 32, 1, 1),
        last_modified=0.0,
    )
    return Function(name, uid, version, reserved_concurrency=reserved)


def event(number: int = 1, *, lane: str = "uid", name: str = "f", attempt: int = 1) -> Event:
    return replace(Event(f"request-{number}", lane, name, b"{}", 1_769_860_800.0), attempt=attempt)
