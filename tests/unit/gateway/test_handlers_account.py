"""GetAccountSettings, the table of operations, and the small formats that answers are made of."""

import pytest
from handler_world import World

from lambent.gateway.field_table import TABLE
from lambent.gateway.handlers.render import timestamp
from lambent.gateway.handlers.runtimes import RETIRED
from lambent.gateway.operations import OPERATIONS


async def test_account_settings_are_the_limits_and_what_is_used() -> None:
    world = World()
    await world.active("one")
    await world.active("two")
    await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    for name, reserved in (("one", 100), ("two", 0)):
        await world.store.set_reserved_concurrency(name, reserved)
    assert await world.call("GetAccountSettings") == {
        "AccountLimit": {
            "TotalCodeSize": 80530636800,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 900,
        },
        "AccountUsage": {"TotalCodeSize": 7 + 7 + 5, "FunctionCount": 2},
    }


def test_every_operation_with_a_field_table_has_a_handler() -> None:
    assert OPERATIONS.keys() == TABLE.keys() - {"Invoke", "InvokeWithResponseStream"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_769_860_800.0, "2026-01-31T12:00:00.000+0000"),
        (1_769_862_896.789, "2026-01-31T12:34:56.789+0000"),
        (1_769_860_799.9996, "2026-01-31T12:00:00.000+0000"),
    ],
)
def test_times_have_milliseconds_and_a_zone(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


def test_retired_runtimes_are_names_of_the_model() -> None:
    import botocore.session

    shape = botocore.session.get_session().get_service_model("lambda").shape_for("Runtime")
    assert set(shape.enum) >= RETIRED
