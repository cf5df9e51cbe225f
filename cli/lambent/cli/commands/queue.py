"""`lambent queue`: what waits, what runs, what was given up, and how to bring it back or drop it. A thin face
of `/_lambent/queue`."""

import time
from typing import Annotated, Any

import typer

from lambent.cli.client import Endpoint, Failed, Name, call, err, say, show, told

app = typer.Typer(
    invoke_without_command=True,
    help="The event queue: depth by function, and what to do with given-up events.",
    epilog="Examples: lambent queue   lambent queue peek hello --line dead   lambent queue redrive hello",
)

Line = Annotated[
    str, typer.Option(help="lane (events), outcomes (on their way to targets) or dead (given up).")
]
_LINES = ("lane", "outcomes", "dead")


@app.callback()
def depths(context: typer.Context, endpoint: Endpoint = None) -> None:
    """Without a command: the numbers of each function that has events."""
    if context.invoked_subcommand is not None:
        return
    with told():
        found = call(endpoint, "GET", "/_lambent/queue")
    rows = [
        (
            row["function"] or f"(deleted) {row['lane']}",
            *(str(row[name]) for name in ("ready", "in_flight", "delayed")),
            _ago(row["oldest_age_seconds"]),
            *(str(row[name]) for name in ("outcomes", "dead")),
        )
        for row in found["functions"]
    ]
    if rows:
        show(("function", "ready", "in flight", "delayed", "oldest", "outcomes", "dead"), rows)
    else:
        say("Nothing waits.")
    for target in found["targets"]:
        since = _ago(time.time() - target["since"])
        say(
            f"{target['arn']} takes nothing for {since} ({target['failures']} tries): {target['error']}",
            style="yellow",
            to=err,
        )


def _ago(seconds: float | None) -> str:
    """`12 s`, `3 min`, `5 h`; nothing for None."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@app.command("peek", epilog="Example: lambent queue peek hello --line dead --limit 20")
def peek(
    function: Name,
    line: Line = "lane",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 10,
    endpoint: Endpoint = None,
) -> None:
    """Shows the oldest events of a function, without taking them."""
    with told():
        query = {"function": function, "line": _checked(line), "limit": str(limit)}
        items = call(endpoint, "GET", "/_lambent/queue/items", query=query)["items"]
    if not items:
        say(f"Nothing on the line {line} of {function}.")
        return
    columns, cells = (_EVENT, _event_row) if line == "lane" else (_ENDED, _ended_row)
    show(columns, [tuple(_short(cell) for cell in cells(item)) for item in items])


_EVENT: tuple[str, ...] = ("request id", "age", "attempt", "due in", "payload")
_ENDED: tuple[str, ...] = ("request id", "age", "condition", "target", "payload", "why")


def _event_row(item: dict[str, Any]) -> tuple[str, ...]:
    return item["request_id"], _ago(item["age_seconds"]), str(item["attempt"]), _due(item), item["payload"]


def _ended_row(item: dict[str, Any]) -> tuple[str, ...]:
    why = item.get("why") or item["error"]
    target = item["target"] or ""
    return item["request_id"], _ago(item["age_seconds"]), item["condition"], target, item["payload"], why


def _due(item: dict[str, Any]) -> str:
    return "" if item["due"] is None else _ago(max(0.0, item["due"] - time.time()))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."


def _checked(line: str) -> str:
    if line not in _LINES:
        raise Failed(f"--line is one of {', '.join(_LINES)}, not {line}.")
    return line


@app.command("redrive", epilog="Examples: lambent queue redrive hello   lambent queue redrive hello --dlq")
def redrive(
    function: Name,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 100_000,
    dlq: Annotated[
        bool, typer.Option("--dlq", help="From the function's SQS dead-letter queue; all that is in it.")
    ] = False,
    endpoint: Endpoint = None,
) -> None:
    """Runs given-up events again, as new ones: those kept here, or those of the dead-letter queue. Of one that
    succeeded, its record goes to its destination again."""
    with told():
        asked = {"function": function, "limit": limit, "from_dead_letter_queue": dlq}
        moved = call(endpoint, "POST", "/_lambent/queue/redrive", body=asked)["moved"]
    events, are = ("event", "is") if moved == 1 else ("events", "are")
    say(f"{moved} {events} of {function} {are} on the way again.")


@app.command("purge", epilog="Example: lambent queue purge hello --line dead")
def purge(
    function: Name,
    line: Annotated[str, typer.Option(help="lane, outcomes or dead.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without asking.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Drops what waits on a line for good; what runs goes on."""
    with told():
        _checked(line)
        if not yes and not typer.confirm(f"Drop everything that waits on the line {line} of {function}?"):
            raise typer.Exit(1)
        query = {"function": function, "line": line}
        dropped = call(endpoint, "DELETE", "/_lambent/queue/items", query=query)["dropped"]
    say(f"Dropped {dropped} from the line {line} of {function}.")


@app.command("replay", epilog="Example: lambent queue replay 41442a5a-c2f6-4358-a4cd-89c5569331d6")
def replay(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As 202 answered it.")],
    endpoint: Endpoint = None,
) -> None:
    """Runs an event again now: one that waits for a retry, or that was given up."""
    with told():
        call(endpoint, "POST", "/_lambent/queue/replay", body={"request_id": request_id})
    say(f"{request_id} is on its way again. See: lambent logs FUNCTION --follow")
