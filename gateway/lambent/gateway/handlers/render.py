"""Stored values in the shapes of AWS's model, in one place, because nine operations answer with the same
FunctionConfiguration and its small formats (times, hashes, ARNs) are what clients compare.

Pure: settings and values in, dicts out. AWS: "FunctionConfiguration", "GetLayerVersionResponse".
"""

import time
from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers.images import config_response
from lambent.kernel.arn import function_arn, layer_arn, runtime_version_arn
from lambent.kernel.models import Archive, FunctionVersion, LayerVersion, LoggingConfig, State
from lambent.kernel.settings import Settings

# What a list row leaves out. AWS: "ListFunctions returns a subset of the FunctionConfiguration fields".
_NOT_LISTED = (
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    "RuntimeVersionConfig",
)


def timestamp(seconds: float) -> str:
    """`2026-01-31T12:34:56.789+0000`, from seconds since the epoch."""
    # Whole milliseconds first: rounding the fraction alone would turn .9996 into ".1000" of the same second.
    ms = round(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}+0000"


def configuration(
    settings: Settings, version: FunctionVersion, *, qualifier: str | None = None
) -> dict[str, Any]:
    """AWS: FunctionConfiguration. `qualifier` is what the caller asked for, and ends the ARN if given."""
    shape: dict[str, Any] = {
        "FunctionName": version.name,
        "FunctionArn": function_arn(
            region=settings.region, account=settings.account_id, name=version.name, qualifier=qualifier
        ),
        "Runtime": version.runtime or None,
        "Role": version.role,
        "Handler": version.handler or None,
        "CodeSize": version.archive.size,
        "Description": version.description,
        "Timeout": version.timeout,
        "MemorySize": version.memory_size,
        "LastModified": timestamp(version.last_modified),
        "CodeSha256": version.archive.sha256 if version.image is None else version.archive.digest,
        "Version": version.version,
        "Environment": {"Variables": dict(version.environment)} if version.environment else None,
        "DeadLetterConfig": {"TargetArn": version.dead_letter} if version.dead_letter else None,
        "TracingConfig": {"Mode": version.tracing or "PassThrough"},
        "RevisionId": version.revision_id,
        "Layers": [{"Arn": use.arn, "CodeSize": use.archive.size} for use in version.layers] or None,
        "State": str(version.state),
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastUpdateStatus": str(version.last_update_status) if version.last_update_status else None,
        "LastUpdateStatusReason": version.last_update_status_reason,
        "LastUpdateStatusReasonCode": version.last_update_status_reason_code,
        "PackageType": "Zip" if version.image is None else "Image",
        "ImageConfigResponse": config_response(version.image) if version.image is not None else None,
        "Architectures": list(version.architectures),
        "EphemeralStorage": {"Size": version.ephemeral_storage},
        "FileSystemConfigs": [
            {"Arn": each.arn, "LocalMountPath": each.path} for each in version.file_systems or ()
        ]
        or None,
        "SnapStart": _snap_start(version),
        "RuntimeVersionConfig": {
            "RuntimeVersionArn": runtime_version_arn(region=settings.region, runtime=version.runtime)
        }
        if version.runtime
        else None,
        "LoggingConfig": _logging(version.logging),
    }
    return present(shape)


def _snap_start(version: FunctionVersion) -> dict[str, str]:
    """On: environments of this version are restored from its snapshot. Those of Java start as ever."""
    on = version.restores and version.state is State.ACTIVE and version.runtime.startswith("python")
    return {"ApplyOn": version.snap_start or "None", "OptimizationStatus": "On" if on else "Off"}


def listed(settings: Settings, version: FunctionVersion, *, qualifier: str | None = None) -> dict[str, Any]:
    """A row of ListFunctions: without states and RuntimeVersionConfig, as on AWS."""
    shape = configuration(settings, version, qualifier=qualifier)
    return {name: value for name, value in shape.items() if name not in _NOT_LISTED}


def layer_row(settings: Settings, layer: LayerVersion) -> dict[str, Any]:
    """AWS: LayerVersionsListItem."""
    return present(
        {
            "LayerVersionArn": layer_arn(
                region=settings.region, account=settings.account_id, name=layer.name, version=layer.version
            ),
            "Version": layer.version,
            "Description": layer.description,
            "CreatedDate": timestamp(layer.created),
            "CompatibleArchitectures": list(layer.compatible_architectures) or None,
            "CompatibleRuntimes": list(layer.compatible_runtimes) or None,
            "LicenseInfo": layer.license_info,
        }
    )


def layer_version(settings: Settings, layer: LayerVersion, *, location: str) -> dict[str, Any]:
    """AWS: GetLayerVersionResponse. `location` is the signed URL of the archive."""
    return {
        "Content": _content(layer.archive, location),
        "LayerArn": layer_arn(region=settings.region, account=settings.account_id, name=layer.name),
        **layer_row(settings, layer),
    }


def present(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The members that have a value: AWS leaves out what is not set, and never sends null."""
    return {name: value for name, value in shape.items() if value is not None}


def _content(archive: Archive, location: str) -> dict[str, Any]:
    return {"Location": location, "CodeSha256": archive.sha256, "CodeSize": archive.size}


def _logging(logging: LoggingConfig) -> dict[str, Any]:
    return present(
        {
            "LogFormat": logging.log_format,
            "ApplicationLogLevel": logging.application_log_level,
            "SystemLogLevel": logging.system_log_level,
            "LogGroup": logging.log_group,
        }
    )
