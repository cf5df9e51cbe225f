"""`lambent deploy DIR` and `lambent deploy --image URI`: from a folder with code, or an image, to a function
that is Active, because the first minutes decide whether a tool is kept.

What is not asked for is what the function has already, else what is found in the folder; whether the server can
run it is asked before pip runs. A change's configuration goes first: it is what servers refuse, and then the
code is the old one still.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lambent.cli.aws import Lambda
from lambent.cli.client import Failed, call
from lambent.cli.handlers import handler_for, named_handler
from lambent.cli.package import Requirements, package, this_python
from lambent.cli.publish import publish
from lambent.kernel.images.reference import parse

_WAITS = {"Delay": 0.1, "MaxAttempts": 1200}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person gave. `configuration`: members of the API for memory, timeout and so on; an `alias` is
    moved to what is published."""

    folder: Path
    name: str | None = None
    handler: str | None = None
    runtime: str | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    publish: bool = False
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class AskedImage:
    """The same of an image; `uri` as the API has it. A `name` that is not given is the last part of its own."""

    uri: str
    name: str | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    publish: bool = False
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of it. `handler`: of an image, its name with the digest; `size`: 0 then; `left_out`: what of
    the folder is not in the package; `warnings`: the server's; `version`: the one that was published."""

    name: str
    created: bool
    handler: str
    size: int
    left_out: Sequence[str]
    warnings: Sequence[str]
    version: str | None = None


def deploy(
    asked: Asked,
    endpoint: str | None,
    *,
    progress: Callable[[str], None],
    dependencies: Requirements | None = None,
) -> Deployed:
    """Packages, creates or updates, and waits until it is done. Raises Failed."""
    progress("Looking at the code...")
    folder = asked.folder.resolve()
    name = asked.name or folder.name
    aws = Lambda(endpoint)
    there = aws.configuration(name)
    stored = there or {}
    runtime = asked.runtime or stored.get("Runtime") or this_python()
    if runtime.startswith("python"):
        handler = handler_for(folder, asked=asked.handler, stored=stored.get("Handler"))
    else:
        handler = named_handler(runtime, asked.handler or stored.get("Handler"))
    python = python_for(runtime, call(aws.endpoint, "GET", "/_lambent/runtimes")["runtimes"])
    progress("Packaging...")
    packed = package(folder, python, dependencies)
    progress(f"Sending {len(packed.data) / 1024:.0f} KB to {aws.endpoint}...")
    wanted = {"Handler": handler, "Runtime": runtime, **asked.configuration}
    changed = {member: value for member, value in wanted.items() if stored.get(member) != value}
    warnings: list[str] = []
    if there is None:
        _create(aws, name, {"ZipFile": packed.data}, changed, warnings)
    else:
        _update(aws, name, {"ZipFile": packed.data}, changed, warnings)
    version = _published(aws, name, asked, progress)
    return Deployed(name, there is None, handler, len(packed.data), packed.left_out, warnings, version)


def deploy_image(asked: AskedImage, endpoint: str | None, *, progress: Callable[[str], None]) -> Deployed:
    """Creates or updates a function that is an image, and waits until it is unpacked. Raises Failed."""
    try:
        reference = parse(asked.uri)
    except ValueError as failure:
        raise Failed(f"{failure}.") from None
    name = asked.name or PurePosixPath(reference.name).name.removesuffix(".tar")
    aws = Lambda(endpoint)
    there = aws.configuration(name)
    stored = there or {}
    if stored.get("PackageType") == "Zip":
        raise Failed(
            f"{name} is a function with a zip file, which cannot become an image: give --name, or delete it."
        )
    changed = {member: value for member, value in asked.configuration.items() if stored.get(member) != value}
    warnings: list[str] = []
    progress(f"Waiting until {asked.uri} is fetched and unpacked...")
    if there is None:
        _create(aws, name, {"ImageUri": asked.uri}, {"PackageType": "Image", **changed}, warnings)
    else:
        _update(aws, name, {"ImageUri": asked.uri}, changed, warnings)
    version = _published(aws, name, asked, progress)
    with aws.errors():
        resolved = aws.client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"]
    return Deployed(name, there is None, resolved, 0, [], warnings, version)


def _published(
    aws: Lambda, name: str, asked: Asked | AskedImage, progress: Callable[[str], None]
) -> str | None:
    """The version, if one was asked for."""
    if not asked.publish and asked.alias is None:
        return None
    progress("Publishing...")
    return publish(aws, name, asked.alias)


def python_for(runtime: str, runtimes: Sequence[Mapping[str, Any]]) -> str:
    """The Python whose wheels a function of `runtime` needs: the one that will run it, which is another one
    where the server takes the nearest. `runtimes`: what the server says it has. Raises Failed with what it
    lacks."""
    found = next((entry for entry in runtimes if entry["runtime"] == runtime), None)
    if found is None:
        raise Failed(
            f"new functions can't have the runtime {runtime!r}. `lambent runtimes` lists those that can be; "
            "name one with --runtime."
        )
    if not found["available"]:
        raise Failed(str(found["problem"]))
    return str(found["runs_on"])


def url_of(target: str, alias: str | None, endpoint: str | None) -> str:
    """The function's URL, or its alias's; made if there is none. Raises Failed."""
    aws = Lambda(endpoint)
    named = {"FunctionName": target.partition(":")[0], **({"Qualifier": alias} if alias else {})}
    with aws.errors():
        try:
            made = aws.client.create_function_url_config(**named, AuthType="NONE")
        except aws.client.exceptions.ResourceConflictException:
            made = aws.client.get_function_url_config(**named)
    return str(made["FunctionUrl"])


def _create(
    aws: Lambda, name: str, code: Mapping[str, Any], configuration: Mapping[str, Any], warnings: list[str]
) -> None:
    given = dict(configuration)
    if "Role" not in given:  # has no effect yet, and has to be one of the server's account
        account = call(aws.endpoint, "GET", "/healthz")["account_id"]
        given["Role"] = f"arn:aws:iam::{account}:role/lambent"
    with aws.errors():
        made = aws.client.create_function(FunctionName=name, Code=code, **given)
        _note(made, warnings)
        aws.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=_WAITS)


def _update(
    aws: Lambda, name: str, code: Mapping[str, Any], configuration: Mapping[str, Any], warnings: list[str]
) -> None:
    with aws.errors():
        waiter = aws.client.get_waiter("function_updated_v2")
        if configuration:
            _note(aws.client.update_function_configuration(FunctionName=name, **configuration), warnings)
            waiter.wait(FunctionName=name, WaiterConfig=_WAITS)
    try:
        with aws.errors():
            _note(aws.client.update_function_code(FunctionName=name, **code), warnings)
            waiter.wait(FunctionName=name, WaiterConfig=_WAITS)
    except Failed as failure:
        if not configuration:
            raise
        raise Failed(
            f"{failure}\nThe new configuration ({', '.join(sorted(configuration))}) is in force already, with "
            "the old code. Correct what is wrong and deploy again."
        ) from None


def _note(answer: Mapping[str, Any], warnings: list[str]) -> None:
    warning = answer["ResponseMetadata"]["HTTPHeaders"].get("x-lambent-warning")
    if warning and warning not in warnings:
        warnings.append(warning)
