"""Values of the models for tests: one with every field set, and small ones to change."""

import dataclasses
from typing import Any

from lambent.kernel.models import (
    Alias,
    Archive,
    EventInvokeConfig,
    Function,
    FunctionVersion,
    LayerUse,
    LayerVersion,
    LoggingConfig,
    RecursiveLoop,
    State,
    Trigger,
    UpdateStatus,
)


def archive(size: int = 1000, digest: str = "ab" * 32) -> Archive:
    return Archive(digest=digest, size=size, unzipped=size * 3)


def version(name: str = "f", **changes: Any) -> FunctionVersion:
    """A small `$LATEST`; `changes` are fields."""
    plain = FunctionVersion(
        name=name,
        uid=f"uid-{name}",
        version="$LATEST",
        generation=1,
        revision_id="r1",
        runtime="python3.11",
        handler="app.handler",
        role="arn:aws:iam::000000000000:role/lambda",
        archive=archive(),
        last_modified=1_769_860_800.25,
    )
    return dataclasses.replace(plain, **changes)


def function(name: str = "f", **changes: Any) -> Function:
    """A small function; `changes` are fields of its `latest`."""
    latest = version(name, **changes)
    return Function(name=name, uid=latest.uid, latest=latest)


def full_function() -> Function:
    """Every field set to something that is not its default."""
    latest = version(
        "full",
        generation=7,
        revision_id="11111111-2222-3333-4444-555555555555",
        description='Überträgt Bilder 🖼, "quoted"\n',
        timeout=900,
        memory_size=10240,
        ephemeral_storage=1024,
        architectures=("arm64",),
        environment={"EMPTY": "", "GREETING": "grüß dich"},
        layers=(
            LayerUse("arn:aws:lambda:us-east-1:000000000000:layer:pillow:3", archive(5, "cd" * 32)),
            LayerUse("arn:aws:lambda:us-east-1:000000000000:layer:fonts:1", archive(6, "ef" * 32)),
        ),
        logging=LoggingConfig("/aws/lambda/full", "JSON", "DEBUG", "WARN"),
        dead_letter="arn:aws:sqs:us-east-1:000000000000:dead",
        state=State.ACTIVE,
        state_reason="The function is being created.",
        state_reason_code="Creating",
        last_update_status=UpdateStatus.IN_PROGRESS,
        last_update_status_reason="The function is being updated.",
        last_update_status_reason_code="Updating",
    )
    return Function(
        name="full",
        uid=latest.uid,
        latest=latest,
        serving=dataclasses.replace(latest, generation=6, environment=None, layers=()),
        tags={"team": "bilder", "cost:center": "4711 ü"},
        reserved_concurrency=0,
        event_invoke={"$LATEST": event_invoke()},
        recursive_loop=RecursiveLoop.ALLOW,
    )


def alias(name: str = "live", **changes: Any) -> Alias:
    """An alias with every field set; `changes` are fields."""
    full = Alias(
        name=name,
        function_version="3",
        revision_id="99999999-8888-7777-6666-555555555555",
        description="what callers use",
        weights={"2": 0.25},
    )
    return dataclasses.replace(full, **changes)


def event_invoke(**changes: Any) -> EventInvokeConfig:
    """An event-invoke configuration with every field set; `changes` are fields."""
    full = EventInvokeConfig(
        last_modified=1_769_860_800.75,
        maximum_retry_attempts=0,
        maximum_event_age=60,
        on_success="arn:aws:sqs:us-east-1:000000000000:good",
        on_failure="arn:aws:s3:::failures",
    )
    return dataclasses.replace(full, **changes)


def layer(name: str = "pillow", **changes: Any) -> LayerVersion:
    """A layer version with every field set; `changes` are fields."""
    full = LayerVersion(
        name=name,
        version=1,
        archive=archive(2000, "cd" * 32),
        created=1_769_860_800.5,
        description="Pillow 12",
        license_info="MIT-CMU",
        compatible_runtimes=("python3.11", "python3.12"),
        compatible_architectures=("x86_64",),
    )
    return dataclasses.replace(full, **changes)


def trigger(trigger_id: str = "t1", **changes: Any) -> Trigger:
    full = Trigger(trigger_id, "photos", "resize", ("s3:ObjectCreated:Put",), "in/", ".jpg")
    return dataclasses.replace(full, **changes)
