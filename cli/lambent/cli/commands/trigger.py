"""The commands about what invokes functions."""

from typing import Annotated

import typer

from lambent.cli.client import Endpoint, Failed, Name, call, err, say, show, told

app = typer.Typer(no_args_is_help=True, help="What invokes functions: objects of an S3 bucket.")


@app.command("add", epilog="Example: lambent trigger add s3://photos resize --prefix in/ --suffix .jpg")
def trigger_add(
    source: Annotated[str, typer.Argument(help="s3://BUCKET", show_default=False)],
    name: Name,
    events: Annotated[list[str] | None, typer.Option(help="As s3:ObjectCreated:*; again for more.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    suffix: Annotated[str, typer.Option(help="Only keys that end so.")] = "",
    endpoint: Endpoint = None,
) -> None:
    """Objects of a bucket invoke a function."""
    with told():
        if not source.startswith("s3://") or not source[5:].strip("/"):
            raise Failed(f"{source} is no s3://BUCKET.")
        asked = {
            "bucket": source[5:].strip("/"),
            "function": name,
            "events": events or ["s3:ObjectCreated:*"],
            "prefix": prefix,
            "suffix": suffix,
        }
        made = call(endpoint, "POST", "/_lambent/triggers", body=asked)
    for warning in made.get("warnings", ()):
        say(f"warning: {warning}", style="yellow", to=err)
    say(f"Added {made['id']}: {source} -> {name}")


@app.command("list", epilog="Example: lambent trigger list")
def trigger_list(endpoint: Endpoint = None) -> None:
    """Lists the triggers."""
    with told():
        found = call(endpoint, "GET", "/_lambent/triggers")["triggers"]
    rows = [
        (row["id"], row["bucket"], row["function"], " ".join(row["events"]), row["prefix"], row["suffix"])
        for row in found
    ]
    if rows:
        show(("id", "bucket", "function", "events", "prefix", "suffix"), rows)
    else:
        say("No triggers yet. Make one: lambent trigger add s3://BUCKET FUNCTION")


@app.command("rm", epilog="Example: lambent trigger rm ID")
def trigger_rm(
    trigger_id: Annotated[str, typer.Argument(metavar="ID", help="As `lambent trigger list` shows it.")],
    endpoint: Endpoint = None,
) -> None:
    """Removes a trigger."""
    with told():
        call(endpoint, "DELETE", "/_lambent/triggers", query={"id": trigger_id})
    say(f"Removed {trigger_id}.")
