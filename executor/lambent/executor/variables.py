"""The environment variables of a function's process, because code and SDKs read AWS's by name.

Nothing of the server's own environment enters but what is passed in here. AWS: "Defined runtime environment
variables"; reserved ones win over the function's own, all others lose to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lambent.kernel.models import FunctionVersion

RUNTIME_API = "127.0.0.1:9001"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What functions sign AWS requests with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def initialization(target: FunctionVersion, provisioned: bool) -> str:
    """AWS's type of it."""
    if target.restores:
        return "snap-start"
    return "provisioned-concurrency" if provisioned else "on-demand"


def build(
    target: FunctionVersion,
    *,
    runtime: Mapping[str, str],
    region: str,
    log_stream: str,
    credentials: Credentials,
    endpoints: Mapping[str, str],
    provisioned: bool = False,
) -> dict[str, str]:
    """All variables. `runtime`: those of the runtime (PATH, LANG, AWS_EXECUTION_ENV, ...);
    `endpoints`: the server's AWS_ENDPOINT_URL*, which a function's own override."""
    reserved = {
        "_HANDLER": target.handler,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": target.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(target.memory_size),
        "AWS_LAMBDA_FUNCTION_VERSION": target.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization(target, provisioned),
        "AWS_LAMBDA_LOG_GROUP_NAME": target.logging.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": RUNTIME_API,
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
    }
    # Long-lived keys have none, and a made-up one would make them invalid.
    if credentials.session_token:
        reserved["AWS_SESSION_TOKEN"] = credentials.session_token
    if target.image is not None:
        del reserved["_HANDLER"]  # its entrypoint's to set
    if target.restores:  # the stream that one is restored into is not that of its init
        del reserved["AWS_LAMBDA_LOG_GROUP_NAME"], reserved["AWS_LAMBDA_LOG_STREAM_NAME"]
    if "AWS_EXECUTION_ENV" in runtime:
        reserved["AWS_EXECUTION_ENV"] = runtime["AWS_EXECUTION_ENV"]
    defaults = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
        "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
    }
    if target.logging.log_format == "JSON":
        defaults["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        defaults["AWS_LAMBDA_LOG_LEVEL"] = target.logging.application_log_level or "INFO"
    return {**defaults, **runtime, **endpoints, **(target.environment or {}), **reserved}
