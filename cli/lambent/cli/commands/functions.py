"""The commands about functions."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lambent.cli.aws import Lambda
from lambent.cli.client import Endpoint, Failed, Name, call, err, out, say, show, told

if TYPE_CHECKING:
    from lambent.cli.deploy import Deployed

app = typer.Typer()


@app.command(
    epilog="Examples: lambent deploy ./hello --name hello --memory 256 --env STAGE=dev   "
    "lambent deploy ./hello --watch   lambent deploy --image registry.example/team/hello:v1"
)
def deploy(
    folder: Annotated[
        Path | None, typer.Argument(help="The folder with the code.", exists=True, file_okay=False)
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="In place of a folder: HOST/NAME:TAG or oci-layout:/FOLDER:TAG.")
    ] = None,
    command: Annotated[
        list[str] | None, typer.Option(help="Of an image: in place of its CMD; again for more.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The function's name.", show_default="the folder's or image's name")
    ] = None,
    handler: Annotated[
        str | None, typer.Option(help="FILE.FUNCTION.", show_default="the function's, or found in the code")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="As python3.11.", show_default="the function's, or this Python's")
    ] = None,
    memory: Annotated[int | None, typer.Option(min=128, max=10240, help="MB.", show_default="128")] = None,
    timeout: Annotated[int | None, typer.Option(min=1, max=900, help="Seconds.", show_default="3")] = None,
    role: Annotated[str | None, typer.Option(help="Role ARN.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; again for more.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Layer version ARN; again for more.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Make a version of it.")] = False,
    alias: Annotated[
        str | None, typer.Option(help="Publish, and move this alias to the version, or make it.")
    ] = None,
    url: Annotated[bool, typer.Option("--url", help="Give it a function URL, if it has none.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and deploy again whenever a file changes, until Ctrl-C.")
    ] = False,
    endpoint: Endpoint = None,
) -> None:
    """Zips a folder, installs its requirements.txt into the package, creates or updates, and waits. Or takes an
    image."""
    from lambent.cli import deploy as work
    from lambent.cli.package import Requirements

    with told(), Requirements() as dependencies:
        configuration = {
            "MemorySize": memory,
            "Timeout": timeout,
            "Role": role,
            "Environment": {"Variables": dict(_pair(entry) for entry in env)} if env else None,
            "Layers": layer,
            "ImageConfig": {"Command": command} if command else None,
        }
        given = {member: value for member, value in configuration.items() if value is not None}
        of_folder = {"--handler": handler, "--runtime": runtime, "--layer": layer, "--watch": watch}
        _one_source(folder, image, of_folder, command)

        def once() -> str:
            with out.status("...") as status:
                if image is not None:
                    of_image = work.AskedImage(image, name, given, publish, alias)
                    done = work.deploy_image(of_image, endpoint, progress=status.update)
                else:
                    assert folder is not None
                    asked = work.Asked(folder, name, handler, runtime, given, publish, alias)
                    done = work.deploy(asked, endpoint, progress=status.update, dependencies=dependencies)
            return _deployed(done, alias)

        target = once()
        if url:
            say(f"URL: {work.url_of(target, alias, endpoint)}", style="green")
        if watch and folder is not None:
            _watch(folder, once)
            return
    say(f"Try it: lambent invoke {target} --payload '{{}}' --tail")


def _one_source(
    folder: Path | None, image: str | None, of_folder: Mapping[str, object], command: Sequence[str] | None
) -> None:
    """Raises Failed for options that go with the other one."""
    if (folder is None) == (image is None):
        raise Failed("give the folder with the code, or --image with an image: one of the two.")
    given = [name for name, value in of_folder.items() if value]
    if image is not None and given:
        raise Failed(f"{', '.join(given)}: an image has no such thing. Leave it out.")
    if folder is not None and command:
        raise Failed("--command is an image's: a function of a folder has a --handler.")


def _watch(folder: Path, once: Callable[[], str]) -> None:
    """Deploys after each change; what is wrong with one is told, and the next one awaited."""
    from lambent.cli.watch import changes

    say(f"Watching {folder}. Stop with Ctrl-C.")
    for names in changes(folder):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        say(f"{time.strftime('%H:%M:%S')} changed: {', '.join(names[:3])}{more}")
        try:
            once()
        except Failed as failure:
            say(f"error: {failure}", style="red", to=err)


def _deployed(done: "Deployed", alias: str | None) -> str:
    """Says what became of a deploy; what to invoke now."""
    for warning in done.warnings:
        say(f"warning: {warning}", style="yellow", to=err)
    if done.left_out:
        say(f"Left out: {', '.join(done.left_out)}")
    say(
        f"{'Created' if done.created else 'Updated'} {done.name} ({done.handler})"
        f"{f', {done.size} bytes' if done.size else ''}.",
        style="green",
    )
    if done.version is not None:
        say(f"Published as version {done.version}{f', which {alias} is now' if alias else ''}.", style="green")
    return f"{done.name}:{alias or done.version}" if done.version is not None else done.name


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Failed(f"--env wants KEY=VALUE, not {text!r}.")
    return key, value


@app.command(
    epilog="Examples: lambent invoke hello --payload '{\"a\": 1}' --tail   "
    "lambent invoke hello --payload @event.json"
)
def invoke(
    name: Name,
    payload: Annotated[str, typer.Option(help="JSON, or @FILE, or @- for standard input.")] = "{}",
    asynchronous: Annotated[bool, typer.Option("--async", help="Queue it and return.")] = False,
    tail: Annotated[bool, typer.Option("--tail", help="Show the end of the log.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Invokes a function and prints its answer. Exit code 1 if the function failed."""
    import base64

    with told():
        body = _payload(payload)
        aws = Lambda(endpoint)
        with aws.errors():
            answer = aws.client.invoke(
                FunctionName=name,
                InvocationType="Event" if asynchronous else "RequestResponse",
                LogType="Tail" if tail and not asynchronous else "None",
                Payload=body,
            )
            data = answer["Payload"].read()
    if answer.get("LogResult"):
        sys.stderr.write(_readable(base64.b64decode(answer["LogResult"]).decode("utf-8", "replace")))
    if asynchronous:
        say(f"Accepted: request id {answer['ResponseMetadata']['RequestId']}")
        say(f"See it run: lambent logs {name} --follow")
        return
    sys.stdout.write(data.decode("utf-8", "replace") + "\n")
    if answer.get("FunctionError"):
        say(f"The function failed. See: lambent logs {name}", style="red", to=err)
        raise typer.Exit(1)


def _readable(log: str) -> str:
    """Runtimes join one entry's lines by carriage returns; a terminal would write one over the other."""
    return log.replace("\r\n", "\n").replace("\r", "\n")


def _payload(text: str) -> bytes:
    if text == "@-":
        data = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            data = Path(text[1:]).read_bytes()
        except OSError as failure:
            raise Failed(f"{text[1:]} can't be read: {failure.strerror}") from None
    else:
        data = text.encode()
    try:
        json.loads(data)
    except ValueError as failure:
        raise Failed(f"the payload is not JSON: {failure}. Strings need their quotes, as '\"text\"'.") from None
    return data


@app.command(epilog="Example: lambent logs hello --follow")
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Prints a function's recent log."""
    with told():
        cursor: str | None = None
        while True:
            query = {"function": name, "wait": "15" if follow and cursor is not None else "0"}
            if cursor is not None:
                query["after"] = cursor
            answer = call(endpoint, "GET", "/_lambent/logs", query=query)
            for line in answer["lines"]:
                at = time.strftime("%H:%M:%S", time.localtime(line["at"] / 1000))
                sys.stdout.write(f"{at}.{line['at'] % 1000:03d} {_readable(line['message'])}\n")
            sys.stdout.flush()
            if not follow and (not answer["lines"] or answer["cursor"] == cursor):
                return
            cursor = answer["cursor"] or cursor or "0"


@app.command(epilog="Examples: lambent functions   lambent functions --urls")
def functions(
    urls: Annotated[bool, typer.Option("--urls", help="Show the function URLs instead.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Lists the functions, or their URLs."""
    with told():
        aws = Lambda(endpoint)
        with aws.errors():
            pages = list(aws.client.get_paginator("list_functions").paginate())
            if urls:
                _show_urls(aws, [row["FunctionName"] for page in pages for row in page["Functions"]])
                return
    rows = [
        (
            row["FunctionName"],
            row.get("Runtime", "an image"),
            row.get("Handler", ""),
            f"{row['MemorySize']} MB",
            f"{row['Timeout']} s",
            f"{row['CodeSize'] / 1024:.0f} KB",
            row["LastModified"][:19].replace("T", " "),
        )
        for page in pages
        for row in page["Functions"]
    ]
    if rows:
        show(("name", "runtime", "handler", "memory", "timeout", "code", "changed"), rows)
    else:
        say("No functions yet. Make one: lambent deploy DIR")


def _show_urls(aws: Lambda, names: Sequence[str]) -> None:
    rows = []
    for name in names:
        answer = aws.client.list_function_url_configs(FunctionName=name)
        for row in answer["FunctionUrlConfigs"]:
            alias = row["FunctionArn"].partition(f":function:{name}")[2].lstrip(":")
            rows.append((f"{name}:{alias}" if alias else name, row["InvokeMode"], row["FunctionUrl"]))
    if rows:
        show(("function", "mode", "url"), sorted(rows))
    else:
        say("No function URLs yet. Make one: lambent deploy DIR --url")


@app.command(epilog="Example: lambent delete hello")
def delete(name: Name, endpoint: Endpoint = None) -> None:
    """Deletes a function. Its log stays."""
    with told():
        aws = Lambda(endpoint)
        with aws.errors():
            aws.client.delete_function(FunctionName=name)
    say(f"Deleted {name}.")
