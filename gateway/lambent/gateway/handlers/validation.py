"""The business rules on configuration members that the service model does not state, beyond the constraints
that the protocol layer has checked: names, environment variables, logging, tags.

Pure. Every error is a kernel error with AWS's text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.gateway.services import Services
from lambent.kernel.errors import InvalidParameterValueException, ValidationException
from lambent.kernel.models import FileSystem, FunctionVersion, LoggingConfig
from lambent.kernel.targets import TargetKind, parse_target

_RESTORED = re.compile(r"java(11|17|21|25)|python3\.(1[2-9]|[2-9]\d)|dotnet(8|10)")
_SNAP_START_EPHEMERAL = 512

MAX_NAME = 64
MAX_ENVIRONMENT_BYTES = 4096
MAX_TAGS = 50

# Set by the service in every environment. AWS: "Defined runtime environment variables".
RESERVED_KEYS = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
    }
)  # fmt: skip


def check_name(name: str) -> None:
    """Raises ValidationException for the name of a new function that is too long.

    The protocol layer knows only the bound of FunctionName as it is sent, which may be a whole ARN.
    """
    if len(name) > MAX_NAME:
        raise ValidationException(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_NAME}"
        )


def check_handler(handler: str) -> None:
    """Raises InvalidParameterValueException for a NUL, which AWS's pattern lets pass: no process can be started
    with it."""
    if "\0" in handler:
        raise InvalidParameterValueException("The handler must not contain NUL characters.")


def environment_variables(environment: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The variables of an Environment member, None when there are none (which clears them on update)."""
    variables: Mapping[str, str] = dict(environment.get("Variables") or {})
    reserved = [key for key in variables if key in RESERVED_KEYS]
    if reserved:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you "
            "have provided contains reserved keys that are currently not supported for modification. Reserved "
            f"keys used in this request: {', '.join(reserved)}"
        )
    if any("\0" in value for value in variables.values()):
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you "
            "have provided contain NUL characters, which no process can be started with."
        )
    measured = json.dumps(variables, ensure_ascii=False, separators=(",", ":"))
    if len(measured.encode("utf-8", "surrogatepass")) > MAX_ENVIRONMENT_BYTES:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you "
            f"have provided exceeded the 4KB limit. String measured: {measured}"
        )
    return variables or None


def dead_letter_target(services: Services, given: Mapping[str, Any]) -> str | None:
    """The ARN of a DeadLetterConfig; None for an empty one, which clears. AWS: standard queues and topics only.

    Raises InvalidParameterValueException for another ARN, or one that can't be reached from here.
    """
    arn: str | None = given.get("TargetArn") or None
    if arn is None:
        return None
    target = parse_target(arn)
    if target is None or target.fifo or target.kind not in (TargetKind.SQS, TargetKind.SNS):
        raise InvalidParameterValueException(
            "The target ARN is invalid. It must name a standard SQS queue or a standard SNS topic."
        )
    problem = services.target_problem(target)
    if problem is not None:
        raise InvalidParameterValueException(
            f"The dead-letter queue {arn} can't be reached from here: {problem}"
        )
    return arn


def file_systems(services: Services, given: Sequence[Mapping[str, Any]]) -> tuple[FileSystem, ...] | None:
    """Of a FileSystemConfigs member; None for an empty one, which clears.

    Raises InvalidParameterValueException for an access point that the operator has not named.
    """
    made = []
    for config in given:
        file_system = FileSystem(config["Arn"], config["LocalMountPath"])
        if file_system.path.removeprefix("/mnt/") in (".", ".."):
            raise InvalidParameterValueException(f"{file_system.path} is no folder below /mnt.")
        if file_system.access_point not in services.settings.file_systems:
            raise InvalidParameterValueException(
                f"The access point {file_system.access_point} stands for no folder here. Name one in "
                f"LAMBENT_FILE_SYSTEMS, as {file_system.access_point}=/srv/folder, and start again."
            )
        made.append(file_system)
    return tuple(made) or None


def snap_start(given: Mapping[str, Any]) -> str | None:
    """None: None."""
    return "PublishedVersions" if given.get("ApplyOn") == "PublishedVersions" else None


def check_snap_start(version: FunctionVersion) -> None:
    """Raises InvalidParameterValueException for what AWS does not restore. AWS: "Supported features and
    limitations" of SnapStart."""
    if version.snap_start is None:
        return
    if version.image is not None:
        raise InvalidParameterValueException("SnapStart does not support functions of container images.")
    if not _RESTORED.fullmatch(version.runtime):
        raise InvalidParameterValueException(
            f"{version.runtime} is not supported for SnapStart enabled functions."
        )
    if version.file_systems:
        raise InvalidParameterValueException("SnapStart does not support functions with a file system.")
    if version.ephemeral_storage > _SNAP_START_EPHEMERAL:
        raise InvalidParameterValueException(
            f"SnapStart does not support ephemeral storage of more than {_SNAP_START_EPHEMERAL} MB."
        )


def tracing_mode(given: Mapping[str, Any]) -> str | None:
    """None: PassThrough."""
    return "Active" if given.get("Mode") == "Active" else None


def logging_config(given: Mapping[str, Any], base: LoggingConfig) -> LoggingConfig:
    """`base` with the given members changed (AWS merges LoggingConfig). Levels exist with JSON only, where
    they default to INFO."""
    log_format = given.get("LogFormat") or base.log_format
    application, system = given.get("ApplicationLogLevel"), given.get("SystemLogLevel")
    group = given.get("LogGroup") or base.log_group
    if log_format == "Text":
        if application or system:
            raise InvalidParameterValueException(
                'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request '
                'or change the LogFormat to "Json" and try again.'
            )
        return LoggingConfig(log_group=group)
    return LoggingConfig(
        log_group=group,
        log_format=log_format,
        application_log_level=application or base.application_log_level or "INFO",
        system_log_level=system or base.system_log_level or "INFO",
    )


def checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """`tags` as given. Raises InvalidParameterValueException for more than 50, or a key of AWS's own."""
    if len(tags) > MAX_TAGS:
        raise InvalidParameterValueException(
            f"A function can have at most {MAX_TAGS} tags, and {len(tags)} were given."
        )
    owned = [key for key in tags if key.lower().startswith("aws:")]
    if owned:
        raise InvalidParameterValueException(
            f"Tag keys that start with aws: are reserved for system use: {', '.join(owned)}"
        )
    return dict(tags)
