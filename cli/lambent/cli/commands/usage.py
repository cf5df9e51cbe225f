"""`lambent usage`: what functions used, and what AWS would have charged. A thin face of `/_lambent/usage`."""

import csv
import json
import sys
from typing import Annotated, Any

import typer

from lambent.cli.client import Endpoint, Failed, call, err, say, show, told

app = typer.Typer()


@app.command(
    "usage",
    epilog="Examples: lambent usage   lambent usage --by tag:team --from 30d --csv",
)
def usage(
    by: Annotated[
        str, typer.Option(help="function, version, alias, architecture, or tag:KEY as tag:team.")
    ] = "function",
    start: Annotated[
        str, typer.Option("--from", help="2026-11-25, 2026-11-25T10:00:00Z, or 30m, 12h, 7d ago.")
    ] = "24h",
    end: Annotated[str, typer.Option("--to", help="The same forms.", show_default="now")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Every number, as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every number, as JSON.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Shows invocations, billed time and cost. Each attempt of an event counts, and inits that failed."""
    with told():
        if as_csv and as_json:
            raise Failed("Give one of --csv and --json.")
        found = call(endpoint, "GET", "/_lambent/usage", query={"by": by, "from": start, "to": end})
    if as_json:
        print(json.dumps(found, indent=2))
    elif as_csv:
        _print_csv(found)
    else:
        _print_table(found, by)
    if found["missing"]:
        say(
            f"{found['missing']} executions are not in these numbers: their records were lost with a disk.",
            style="yellow",
            to=err,
        )


def _print_csv(found: dict[str, Any]) -> None:
    rows = found["rows"]
    names = [*dict.fromkeys(name for row in rows for name in row)] or list(found["total"])
    writer = csv.DictWriter(sys.stdout, names)
    writer.writeheader()
    writer.writerows(rows)


def _print_table(found: dict[str, Any], by: str) -> None:
    say(f"{found['from']} to {found['to']}")
    if not found["rows"]:
        say("Nothing ran.")
        return
    groups = ("function", by) if by in ("version", "alias") else (by,)
    headings = (
        *groups,
        *(
            "invocations",
            "errors",
            "cold starts",
            "billed ms",
            "CPU ms",
            "GB-s",
            f"cost in {found['currency']}",
        ),
    )
    rows = [(*(row[name] or "-" for name in groups), *_numbers(row)) for row in found["rows"]]
    if len(rows) > 1:
        rows.append(("total", *("" for _ in groups[1:]), *_numbers(found["total"])))
    show(headings, rows)
    say(f"Cost: {found['prices']}.")


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["invocations"]),
        str(row["errors"]),
        str(row["cold_starts"]),
        str(row["billed_ms"]),
        f"{row['cpu_ms']:.0f}",
        f"{row['gb_seconds']:.3f}",
        f"{row['cost_usd']:.8f}",
    )
