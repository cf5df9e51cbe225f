"""How commands reach a running server, and how their failures are told: one line that says what to do next.

The endpoint is `--endpoint`, else `LAMBENT_ENDPOINT`, else `AWS_ENDPOINT_URL_LAMBDA`, else this machine's, at
`LAMBENT_PORT` or the default port. What answers there is Lambent if it gives a request id, as AWS does: other
servers' errors are not shown as if they were ours.
"""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lambent.kernel.loopback import is_loopback

if TYPE_CHECKING:
    from lambent.kernel.settings import Settings

out = Console()
err = Console(stderr=True)

_STYLES = {"yes": "green", "no": "yellow"}
_HIDDEN = ("redis_url", "broker_url", "function_aws_")
REQUEST_ID = "x-amzn-requestid"
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        envvar=["LAMBENT_ENDPOINT", "AWS_ENDPOINT_URL_LAMBDA"],
        help="The server.",
        show_default="http://127.0.0.1:9000, or as LAMBENT_HOST and LAMBENT_PORT say",
    ),
]
Name = Annotated[str, typer.Argument(help="The function's name.", show_default=False)]


def say(text: str, *, style: str | None = None, to: Console = out) -> None:
    """Prints text as it is: brackets in it are no markup, and a terminal breaks long lines itself, so that URLs
    and ARNs can be copied whole."""
    to.print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)
    to.file.flush()  # a pipe has it now too, from a command that stays


def show(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table. In a terminal long cells are folded; elsewhere each row is one line, to be cut and
    searched. Cells are printed as they are, but for "yes" and "no", which get their colours."""
    table = [list(headings), *(list(row) for row in rows)]
    if not out.is_terminal:
        widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
        for row in table:
            say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*headings, box=None)
    for row in table[1:]:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, ""), overflow="fold") for cell in row))
    out.print(drawn)


class Failed(Exception):
    """A command failed; the message says why and what to do."""


@contextmanager
def told() -> Iterator[None]:
    """Turns the failures that a person can act on into one line and exit code 1."""
    try:
        yield
    except Failed as failure:
        say(f"error: {failure}", style="red", to=err)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def read_settings(flags: Mapping[str, Any]) -> "Settings":
    """Settings with flags over them. Raises Failed with one line that names each wrong one."""
    from pydantic import ValidationError

    from lambent.kernel.settings import Settings

    try:
        return Settings(**flags)
    except ValidationError as failure:
        raise Failed("; ".join(_wrong(error) for error in failure.errors())) from None
    except (OSError, ValueError) as failure:
        named = os.environ.get("LAMBENT_CONFIG") or "lambent.toml in the data folder"
        raise Failed(f"{named} can't be read: {failure}. Correct it, or remove it.") from None


def _wrong(error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    why = error["msg"].removeprefix("Value error, ")
    # A URL may hold a password, and whole keys are none of a log's business.
    shown = "wrong" if name.startswith(_HIDDEN) else repr(str(error["input"]))
    return f"the setting {name} (a flag, LAMBENT_{name.upper()} or {name} in lambent.toml) is {shown}: {why}"


def not_there(endpoint: str) -> Failed:
    return Failed(
        f"no Lambent answers at {endpoint}. Start one with `lambent up`, or name another with --endpoint URL."
    )


def no_lambent(endpoint: str, how: str) -> Failed:
    return Failed(f"what answers at {endpoint} is no Lambent ({how}). Name one with --endpoint URL.")


def url_of(host: str, port: int | str) -> str:
    """How this machine's clients address a listener. One on every address is reached by loopback."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _default() -> str:
    """Where a `lambent up` of the same environment listens."""
    port = os.environ.get("LAMBENT_PORT", "").strip()
    return url_of(os.environ.get("LAMBENT_HOST") or "127.0.0.1", "9000" if port in ("", "0") else port)


def checked(endpoint: str | None) -> str:
    """The endpoint, or the default, without a slash at its end. Raises Failed if it is no http(s) URL."""
    url = (endpoint or _default()).rstrip("/")
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range
        usable = False
    if not usable:
        raise Failed(
            f"{url!r} is no URL of a server. Give one as --endpoint URL, for example http://127.0.0.1:9000."
        )
    return url


def call(
    endpoint: str | None,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    seconds: float = 60,
) -> Any:
    """A request to Lambent's own routes; the JSON of the answer. Raises Failed."""
    base = checked(endpoint)
    url = f"{base}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with _opener(base).open(request, timeout=seconds) as answer:
            if REQUEST_ID not in answer.headers:
                raise no_lambent(base, f"it answered {answer.status}")
            return json.load(answer)
    except ValueError:
        raise no_lambent(base, "it answered what is no JSON") from None
    except urllib.error.HTTPError as failure:
        said = failure.read()
        if REQUEST_ID not in failure.headers:
            raise no_lambent(base, f"it answered {failure.code}") from None
        raise Failed(_message(said, f"the server answered {failure.code}")) from None
    except (OSError, http.client.HTTPException):
        raise not_there(base) from None


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    return urllib.request.build_opener(*handlers)


def _message(body: bytes, otherwise: str) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return otherwise
    if not isinstance(answer, dict):
        return otherwise
    return str(answer.get("Message") or answer.get("message") or otherwise)
