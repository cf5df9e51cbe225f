"""The Extensions API's routes, beside the Runtime API's on the same address; and those of the launcher of
extensions. AWS: "Lambda Extensions API", 2020-01-01.
"""

import json
from typing import Any, Protocol

from lambent.executor.extensions import Extension, Extensions
from lambent.executor.runtime_api import ACCEPTED, Answer, Posted, Waiting, refusal
from lambent.executor.subscribers import Subscribers
from lambent.executor.telemetry import LOGS, TELEMETRY

_PREFIX = "/2020-01-01/extension/"
_LAUNCHER = "/lambent/"
_MAX_MESSAGE = 4096
_IDENTIFIER = b"lambda-extension-identifier"
_ERROR_TYPE = b"lambda-extension-function-error-type"


class Calls(Protocol):
    """What the environment does with what its extensions say."""

    extensions: Extensions
    subscribers: Subscribers

    def function_facts(self) -> dict[str, str]:
        """What who registers is answered."""

    def extension_registered(self, extension: Extension) -> None: ...

    def extension_waits(self, extension: Extension) -> None: ...

    def extension_failed(self, name: str, error_type: str, message: str, reason: str) -> None:
        """It failed in a way that ends the environment. `error_type`: AWS's; `reason`: the extension's own."""

    def launcher_waits(self, waiting: Waiting) -> None:
        """Until all have registered."""

    def process_ended(self, document: Any, waiting: Waiting) -> None:
        """An extension, or the runtime, has ended; answered when that has been dealt with."""


def serve(calls: Calls, method: str, path: str, posted: Posted, waiting: Waiting) -> Answer | None:
    """None: it waits. An Answer with status 404 for what is no route of ours."""
    if path.startswith(_LAUNCHER):
        return _launcher(calls, method, path[len(_LAUNCHER) :], posted, waiting)
    what = path[len(_PREFIX) :] if path.startswith(_PREFIX) else ""
    if (method, what) == ("POST", "register"):
        return _register(calls, posted)
    if method == "PUT" and path in (TELEMETRY, LOGS):
        return _subscribe(calls, path, posted)
    if (method, what) not in (("GET", "event/next"), ("POST", "init/error"), ("POST", "exit/error")):
        return refusal(404, "NotFound", f"There is no {method} {path}.")
    extension = calls.extensions.of(posted.headers.get(_IDENTIFIER))
    if isinstance(extension, Answer):
        return extension
    if what == "event/next":
        extension.wait(waiting)
        calls.extension_waits(extension)
        return None
    error_type = posted.headers.get(_ERROR_TYPE, b"").decode("latin-1")
    if not error_type:
        return refusal(403, "MissingHeader", "Lambda-Extension-Function-Error-Type is missing.")
    kind = "Extension.InitError" if what == "init/error" else "Extension.ExitError"
    calls.extension_failed(extension.name, kind, _told(posted.body) or error_type, error_type)
    return ACCEPTED


def _subscribe(calls: Calls, path: str, posted: Posted) -> Answer:
    extension = calls.extensions.of(posted.headers.get(_IDENTIFIER))
    if isinstance(extension, Answer):
        return extension
    closed = calls.extensions.closed or extension.ready
    return calls.subscribers.subscribe(extension, path, _json(posted.body), closed=closed)


def _register(calls: Calls, posted: Posted) -> Answer:
    document = _json(posted.body)
    if document is None:
        return refusal(400, "InvalidRequestFormat", "The body must be a JSON object.")
    name = posted.headers.get(b"lambda-extension-name", b"").decode("latin-1")
    made = calls.extensions.register(name, document)
    if isinstance(made, Answer):
        return made
    features = posted.headers.get(b"lambda-extension-accept-feature", b"").decode("latin-1")
    facts = calls.function_facts()
    if "accountId" not in [each.strip() for each in features.split(",")]:
        del facts["accountId"]
    calls.extension_registered(made)
    head = b"lambda-extension-identifier: %b\r\n" % made.id.encode()
    return Answer(200, json.dumps(facts).encode(), head)


def _launcher(calls: Calls, method: str, what: str, posted: Posted, waiting: Waiting) -> Answer | None:
    if (method, what) == ("GET", "registered"):
        calls.launcher_waits(waiting)
        return None
    document = _json(posted.body)
    if (method, what) == ("POST", "exited") and isinstance(document, dict):
        calls.process_ended(document, waiting)
        return None
    return refusal(404, "NotFound", "There is no such thing.")


def _told(body: bytes) -> str:
    """The message of an error document; "" where there is none."""
    document = _json(body)
    message = document.get("errorMessage") if isinstance(document, dict) else None
    return message[:_MAX_MESSAGE] if isinstance(message, str) else ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
