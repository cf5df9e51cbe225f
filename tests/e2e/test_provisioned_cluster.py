"""Provisioned concurrency over the executors of a cluster."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from roles import ClusterOf
from running import ROLE, RUNTIME, zipped

pytestmark = [pytest.mark.timeout(240)]
CODE = 'import os\ndef handler(event, context):\n    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]\n'


def ready(aws: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        found = aws.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
        if found["Status"] == "READY" and found["AvailableProvisionedConcurrentExecutions"] == 4:
            return
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_environments_are_kept_though_an_executor_dies(tmp_path: Path) -> None:
    with ClusterOf(tmp_path, executors=2) as cluster:
        aws = cluster.gateways[0].client()
        aws.create_function(
            FunctionName="f",
            Code={"ZipFile": zipped({"app.py": CODE})},
            Runtime=RUNTIME,
            Handler="app.handler",
            Role=ROLE,
            Publish=True,
        )
        aws.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 1})
        aws.put_provisioned_concurrency_config(
            FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=4
        )
        ready(aws)
        answer = aws.invoke(FunctionName="f", Qualifier="1")
        assert json.loads(answer["Payload"].read()) == "provisioned-concurrency"
        cluster.executors[0].kill()
        time.sleep(4.0)  # for it to be silent
        ready(aws)
        cluster.schedulers[0].kill()
        cluster.schedulers[0].start()
        ready(aws)
        answer = aws.invoke(FunctionName="f", Qualifier="1")
        assert json.loads(answer["Payload"].read()) == "provisioned-concurrency"
        aws.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
        answer = aws.invoke(FunctionName="f", Qualifier="1")
        assert json.loads(answer["Payload"].read()) == "on-demand"
