"""Put-, Update-, Get-, List- and DeleteFunctionEventInvokeConfig, and DeadLetterConfig."""

from typing import Any

import pytest
from handler_world import ROLE, World

from lambent.kernel.errors import InvalidParameterValueException, LambdaError, ResourceNotFoundException

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"
TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/default"
OTHER = "arn:aws:lambda:us-east-1:123456789012:function:other"
BUCKET = "arn:aws:s3:::failures"


@pytest.fixture
async def world() -> World:
    made = World()
    await made.active()
    return made


async def refused(world: World, operation: str, **members: Any) -> LambdaError:
    with pytest.raises(LambdaError) as caught:
        await world.call(operation, **members)
    return caught.value


def failing_to(arn: str) -> dict[str, Any]:
    return {"OnFailure": {"Destination": arn}}


async def test_put_answers_and_stores_the_whole_configuration(world: World) -> None:
    answer = await world.call(
        "PutFunctionEventInvokeConfig",
        FunctionName="my-fn",
        MaximumRetryAttempts=0,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnSuccess": {"Destination": QUEUE}, "OnFailure": {"Destination": BUCKET}},
    )
    assert answer == {
        "LastModified": 1_769_860_800.0,
        "FunctionArn": f"{ARN}:$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {"OnSuccess": {"Destination": QUEUE}, "OnFailure": {"Destination": BUCKET}},
    }
    assert await world.call("GetFunctionEventInvokeConfig", FunctionName="my-fn") == answer
    assert await world.call("GetFunctionEventInvokeConfig", FunctionName=f"{ARN}:$LATEST") == answer


async def test_put_drops_what_it_does_not_name(world: World) -> None:
    for members in ({"MaximumRetryAttempts": 1}, {"DestinationConfig": failing_to(QUEUE)}):
        await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn", **members)
    answer = await world.call("GetFunctionEventInvokeConfig", FunctionName="my-fn")
    assert "MaximumRetryAttempts" not in answer
    assert answer["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}}


async def test_update_changes_what_it_names_and_an_empty_destination_clears(world: World) -> None:
    await world.call(
        "PutFunctionEventInvokeConfig",
        FunctionName="my-fn",
        MaximumRetryAttempts=1,
        DestinationConfig={"OnSuccess": {"Destination": QUEUE}, "OnFailure": {"Destination": TOPIC}},
    )
    await world.clock.advance(5)
    answer = await world.call(
        "UpdateFunctionEventInvokeConfig",
        FunctionName="my-fn",
        MaximumEventAgeInSeconds=90,
        DestinationConfig={"OnSuccess": {"Destination": ""}},
    )
    assert answer == {
        "LastModified": 1_769_860_805.0,
        "FunctionArn": f"{ARN}:$LATEST",
        "MaximumRetryAttempts": 1,
        "MaximumEventAgeInSeconds": 90,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": TOPIC}},
    }


@pytest.mark.parametrize("operation", ["PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig"])
async def test_nothing_given_is_refused(world: World, operation: str) -> None:
    await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn", MaximumRetryAttempts=1)
    failure = await refused(world, operation, FunctionName="my-fn")
    assert isinstance(failure, InvalidParameterValueException)
    assert failure.message == "You must specify at least one of error handling or destination setting."


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("GetFunctionEventInvokeConfig", {}),
        ("DeleteFunctionEventInvokeConfig", {}),
        ("UpdateFunctionEventInvokeConfig", {"MaximumRetryAttempts": 1}),
    ],
)
async def test_where_there_is_no_configuration(world: World, operation: str, members: dict[str, Any]) -> None:
    failure = await refused(world, operation, FunctionName="my-fn", **members)
    assert isinstance(failure, ResourceNotFoundException)
    assert failure.message == f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig"


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("PutFunctionEventInvokeConfig", {"MaximumRetryAttempts": 1}),
        ("UpdateFunctionEventInvokeConfig", {"MaximumRetryAttempts": 1}),
        ("GetFunctionEventInvokeConfig", {}),
        ("ListFunctionEventInvokeConfigs", {}),
        ("DeleteFunctionEventInvokeConfig", {}),
    ],
)
async def test_where_there_is_no_function(world: World, operation: str, members: dict[str, Any]) -> None:
    failure = await refused(world, operation, FunctionName="gone", **members)
    assert isinstance(failure, ResourceNotFoundException)
    assert failure.message == f"Function not found: {ARN.replace('my-fn', 'gone')}"


async def test_delete_removes_it(world: World) -> None:
    await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn", MaximumRetryAttempts=1)
    assert await world.call("DeleteFunctionEventInvokeConfig", FunctionName="my-fn") == {}
    assert (await world.stored()).event_invoke == {}


async def test_a_list_pages_by_qualifier(world: World) -> None:
    assert await world.call("ListFunctionEventInvokeConfigs", FunctionName="my-fn") == {
        "FunctionEventInvokeConfigs": []
    }
    await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn", MaximumRetryAttempts=1)
    (latest,) = (await world.stored()).event_invoke.values()
    for qualifier in ("live", "2"):
        await world.store.set_event_invoke("my-fn", qualifier, lambda before: latest)
    seen, marker = list[str](), dict[str, str]()
    while True:
        page = await world.call("ListFunctionEventInvokeConfigs", FunctionName="my-fn", MaxItems=1, **marker)
        seen += [row["FunctionArn"].rpartition(":")[2] for row in page["FunctionEventInvokeConfigs"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert seen == ["$LATEST", "2", "live"]


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUS, OTHER, BUCKET])
async def test_every_kind_of_destination_is_taken_for_failures(world: World, arn: str) -> None:
    answer = await world.call(
        "PutFunctionEventInvokeConfig", FunctionName="my-fn", DestinationConfig=failing_to(arn)
    )
    assert answer["DestinationConfig"]["OnFailure"] == {"Destination": arn}


@pytest.mark.parametrize(
    ("which", "arn"),
    [
        ("OnSuccess", BUCKET),
        ("OnFailure", f"{QUEUE}.fifo"),
        ("OnFailure", f"{TOPIC}.fifo"),
        ("OnFailure", "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner/x.com"),
        ("OnFailure", "arn:aws:kinesis:us-east-1:123456789012:stream/s"),
        ("OnFailure", "arn:aws:sqs:us-east-1::q"),
        ("OnFailure", "arn:aws:s3:us-east-1:123456789012:bucket"),
        ("OnFailure", "kafka://topic"),
    ],
)
async def test_what_can_be_no_destination_is_refused(world: World, which: str, arn: str) -> None:
    failure = await refused(
        world,
        "PutFunctionEventInvokeConfig",
        FunctionName="my-fn",
        DestinationConfig={which: {"Destination": arn}},
    )
    assert isinstance(failure, InvalidParameterValueException)
    assert failure.message == f"The destination ARN {arn} is invalid."
    assert (await world.stored()).event_invoke == {}


async def test_a_function_is_no_destination_of_itself(world: World) -> None:
    failure = await refused(
        world, "PutFunctionEventInvokeConfig", FunctionName="my-fn", DestinationConfig=failing_to(ARN)
    )
    assert failure.message == "You can't specify the function as a destination for itself."


async def test_a_destination_out_of_reach_is_refused_with_what_to_do(world: World) -> None:
    world.target_problems[QUEUE] = "Set AWS_ENDPOINT_URL_SQS."
    failure = await refused(
        world, "PutFunctionEventInvokeConfig", FunctionName="my-fn", DestinationConfig=failing_to(QUEUE)
    )
    assert isinstance(failure, InvalidParameterValueException)
    assert failure.message == f"The destination {QUEUE} can't be reached from here: Set AWS_ENDPOINT_URL_SQS."


async def test_a_dead_letter_queue_is_shown_changed_and_cleared(world: World) -> None:
    await world.active("with", DeadLetterConfig={"TargetArn": QUEUE})
    assert (await world.configuration("with"))["DeadLetterConfig"] == {"TargetArn": QUEUE}
    for target, shown in ((TOPIC, {"TargetArn": TOPIC}), ("", None)):
        await world.call(
            "UpdateFunctionConfiguration", FunctionName="with", DeadLetterConfig={"TargetArn": target}
        )
        await world.idle()
        assert (await world.configuration("with")).get("DeadLetterConfig") == shown


async def test_a_dead_letter_queue_needs_no_new_environments(world: World) -> None:
    before = (await world.stored()).latest.generation
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", DeadLetterConfig={"TargetArn": QUEUE})
    await world.idle()
    assert (await world.stored()).latest.generation == before


@pytest.mark.parametrize("arn", [OTHER, BUS, BUCKET, f"{QUEUE}.fifo", "arn:aws:sqs:us-east-1:1:q"])
async def test_only_standard_queues_and_topics_take_dead_letters(world: World, arn: str) -> None:
    failure = await refused(
        world,
        "CreateFunction",
        FunctionName="dead",
        Runtime="python3.11",
        Handler="app.handler",
        Role=ROLE,
        Code={"ZipFile": b"zip"},
        DeadLetterConfig={"TargetArn": arn},
    )
    assert isinstance(failure, InvalidParameterValueException)
    assert failure.message.startswith("The target ARN is invalid.")
