"""The command `lambent`. Each command is a thin face in `commands/`: what it does lives in its own module,
imported when used, so that `lambent --help` is quick."""

from importlib import metadata
from typing import Annotated

import typer

from lambent.cli.client import say
from lambent.cli.commands import functions, machine, queue, roles, trigger, usage

app = typer.Typer(
    name="lambent",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="AWS Lambda's API on your own machines.\n\nStart with [bold]lambent up[/bold], then "
    "[bold]lambent deploy DIR[/bold] and [bold]lambent invoke NAME[/bold], or use boto3, aws, SAM, Terraform.",
)
app.add_typer(machine.app)
app.add_typer(roles.app)
app.add_typer(functions.app)
app.add_typer(usage.app)
app.add_typer(trigger.app, name="trigger")
app.add_typer(queue.app, name="queue")


def _version(asked: bool) -> None:
    if asked:
        say(f"lambent {metadata.version('lambent')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command; the help is the application's."""


def main() -> None:
    """The console script."""
    app()
