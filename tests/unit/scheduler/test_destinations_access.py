"""access.py: what can be reached from here, with whose keys, and which failures are final."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lambent.kernel.targets import Target, TargetKind, parse_target
from lambent.scheduler.destinations.access import Access, Clients
from lambent.scheduler.destinations.base import DeliveryFailed


def target(arn: str) -> Target:
    found = parse_target(arn)
    assert found is not None
    return found


QUEUE = target("arn:aws:sqs:us-east-1:000000000000:q")
BUS = target("arn:aws:events:us-east-1:000000000000:event-bus/default")


def problem(access: Access, of: Target) -> str | None:
    return access.problem(of, region="us-east-1", account="000000000000")


def test_a_target_needs_an_endpoint_or_keys_of_somebody() -> None:
    nothing = Access({}, "placeholder", "placeholder")
    found = problem(nothing, BUS)
    assert found is not None and "AWS_ENDPOINT_URL_EVENTBRIDGE" in found
    assert problem(Access({"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://x"}, "k", "s"), BUS) is None
    assert problem(Access({"AWS_ENDPOINT_URL": "http://x"}, "k", "s"), QUEUE) is None
    assert problem(Access({"AWS_ENDPOINT_URL_SNS": "http://x"}, "k", "s"), QUEUE) is not None
    assert problem(Access({}, "k", "s", own_keys=True), QUEUE) is None


def test_functions_are_those_of_this_server() -> None:
    nothing = Access({}, "k", "s")
    assert problem(nothing, target("arn:aws:lambda:us-east-1:000000000000:function:f")) is None
    for elsewhere in ("eu-west-1:000000000000", "us-east-1:123456789012"):
        assert problem(nothing, target(f"arn:aws:lambda:{elsewhere}:function:f")) is not None


def test_functions_are_reached_by_version_and_alias_too() -> None:
    nothing = Access({}, "k", "s")
    for qualifier in ("prod", "1", "$LATEST"):
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:f:{qualifier}"
        assert problem(nothing, target(arn)) is None


def test_a_services_own_endpoint_wins() -> None:
    access = Access({"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SQS": "http://sqs"}, "k", "s")
    assert access.endpoint(TargetKind.SQS) == "http://sqs"
    assert access.endpoint(TargetKind.SNS) == "http://all"


def test_keys_are_in_no_repr() -> None:
    assert "secret" not in repr(Access({}, "k", "secret", "secret-token"))


def refusal(code: str, status: int) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "SendMessage")


@pytest.mark.parametrize(
    ("failure", "final"),
    [
        (refusal("InvalidMessageContents", 400), True),
        (refusal("EntityTooLarge", 413), True),
        (refusal("AWS.SimpleQueueService.NonExistentQueue", 400), False),
        (refusal("NoSuchBucket", 404), False),
        (refusal("ThrottlingException", 400), False),
        (refusal("AccessDenied", 403), False),
        (refusal("AccessDeniedException", 400), False),
        (refusal("KmsAccessDenied", 400), False),
        (refusal("KMSThrottling", 400), False),
        (refusal("InvalidParameterValue", 400), True),
        (refusal("InternalFailure", 500), False),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), False),
        (ConnectionResetError("gone"), False),
    ],
)
async def test_which_failures_are_final(failure: Exception, final: bool) -> None:
    clients = Clients(Access({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "k", "s"), region="us-east-1")

    def fail(client: Any) -> None:
        raise failure

    with pytest.raises(DeliveryFailed) as caught:
        await clients.call(QUEUE, fail)
    assert caught.value.final is final
    clients.close()


async def test_the_clients_sign_with_the_keys_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with none of the server's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-servers-own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-servers-own")
    clients = Clients(Access({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "key", "secret"), region="us-east-1")
    read: Callable[[Any], Any] = lambda client: client._request_signer._credentials.access_key  # noqa: E731
    assert await clients.call(QUEUE, read) == "key"
    one, two = await asyncio.gather(*(clients.call(QUEUE, id) for _ in range(2)))
    assert one and two
    clients.close()


async def test_a_call_that_hangs_holds_up_neither_others_nor_the_end() -> None:
    clients = Clients(Access({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "k", "s"), region="us-east-1")
    began, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(client: Any) -> None:
        loop.call_soon_threadsafe(began.set)
        over.wait()

    hanging = asyncio.ensure_future(clients.call(QUEUE, hang))
    await began.wait()
    assert await clients.call(QUEUE, lambda client: 1) == 1
    clients.close()
    with pytest.raises(DeliveryFailed, match="stopping"):
        await clients.call(QUEUE, lambda client: 1)
    assert {thread.daemon for thread in threading.enumerate() if thread.name == "destination"} == {True}
    hanging.cancel()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await hanging
