"""Provisioned concurrency as a client sees it, on a real server."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running import Functions, Server

pytestmark = [pytest.mark.timeout(120)]
CODE = """
    import os, time, uuid
    ID = uuid.uuid4().hex

    def handler(event, context):
        time.sleep(event.get("s", 0))
        return {"id": ID, "how": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "version":
        context.function_version}
    """


def invoke(functions: Functions, name: str, qualifier: str, **event: Any) -> Any:
    answer = functions.aws.invoke(FunctionName=name, Qualifier=qualifier, Payload=json.dumps(event))
    return json.loads(answer["Payload"].read())


def published(functions: Functions, code: str = CODE) -> tuple[str, str]:
    """(function, alias "live" of its version 1)."""
    name = functions.create(code)
    functions.aws.publish_version(FunctionName=name)
    functions.aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name, "live"


def far(functions: Functions, name: str, qualifier: str, status: str, seconds: float = 30.0) -> Any:
    """The configuration once it has that status."""
    until = time.monotonic() + seconds
    while True:
        found = functions.aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if found["Status"] == status:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def put(functions: Functions, name: str, qualifier: str, count: int) -> Any:
    return functions.aws.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )


def test_environments_are_there_before_they_are_asked_for(functions: Functions) -> None:
    name, alias = published(functions)
    answer = put(functions, name, alias, 2)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["Status"] == "IN_PROGRESS"
    ready = far(functions, name, alias, "READY")
    assert ready["AllocatedProvisionedConcurrentExecutions"] == 2
    assert ready["AvailableProvisionedConcurrentExecutions"] == 2
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda _: invoke(functions, name, alias, s=0.5), range(2)))
    assert {answer["how"] for answer in answers} == {"provisioned-concurrency"}
    assert len({answer["id"] for answer in answers}) == 2


def test_what_is_beyond_an_allocation_runs_on_demand(functions: Functions) -> None:
    name, alias = published(functions)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda _: invoke(functions, name, alias, s=1.0), range(2)))
    assert sorted(answer["how"] for answer in answers) == ["on-demand", "provisioned-concurrency"]


def test_reserved_that_is_all_provisioned_throttles_the_rest(functions: Functions) -> None:
    name, alias = published(functions)
    functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    refused = functions.aws.exceptions.TooManyRequestsException
    with pytest.raises(refused) as throttled:
        invoke(functions, name, "$LATEST")
    assert throttled.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert invoke(functions, name, alias)["how"] == "provisioned-concurrency"


def test_an_alias_that_moves_takes_its_allocation_along(functions: Functions) -> None:
    name, alias = published(functions)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    functions.aws.update_function_configuration(FunctionName=name, Description="second", Timeout=19)
    functions.active(name)
    assert functions.aws.publish_version(FunctionName=name)["Version"] == "2"
    functions.aws.update_alias(FunctionName=name, Name=alias, FunctionVersion="2")
    far(functions, name, alias, "READY")
    assert invoke(functions, name, alias) | {"id": ""} == {
        "id": "",
        "how": "provisioned-concurrency",
        "version": "2",
    }


def test_a_deleted_allocation_is_gone(functions: Functions) -> None:
    name, alias = published(functions)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    functions.aws.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=alias)
    functions.aws.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=alias)
    with pytest.raises(functions.aws.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        functions.aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier=alias)
    assert invoke(functions, name, alias)["how"] == "on-demand"


def test_an_init_that_fails_is_told(functions: Functions) -> None:
    name, alias = published(functions, "raise ValueError('not today')\n")
    put(functions, name, alias, 1)
    failed = far(functions, name, alias, "FAILED")
    assert failed["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert failed["AvailableProvisionedConcurrentExecutions"] == 0


def test_an_environment_that_dies_is_replaced(functions: Functions) -> None:
    dies = CODE + "\n    def die(event, context):\n        os._exit(1)\n"
    code = dies.replace('time.sleep(event.get("s", 0))', 'event.get("die") and os._exit(1)')
    name, alias = published(functions, code)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    first = invoke(functions, name, alias)["id"]
    invoke(functions, name, alias, die=True)
    far(functions, name, alias, "READY")
    again = invoke(functions, name, alias)
    assert again["how"] == "provisioned-concurrency"
    assert again["id"] != first


def test_a_restart_brings_the_allocation_back(own_server: Callable[..., Server]) -> None:
    server = own_server("--no-s3")
    functions = Functions(server)
    name, alias = published(functions)
    put(functions, name, alias, 1)
    far(functions, name, alias, "READY")
    server.kill()
    server.start()
    functions = Functions(server)
    far(functions, name, alias, "READY")
    assert invoke(functions, name, alias)["how"] == "provisioned-concurrency"
