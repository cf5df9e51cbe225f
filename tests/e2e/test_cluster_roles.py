"""Roles apart as a person starts them: what they prove to each other, how they come and go."""

import http.client
import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from roles import ClusterOf
from running import ROLE, RUNTIME, zipped
from streamers import streamer
from traces import until

pytestmark = [pytest.mark.timeout(240)]
HANDLER = "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return event\n"


def create(cluster: ClusterOf, name: str = "f") -> Any:
    aws = cluster.gateways[0].client()
    aws.create_function(
        FunctionName=name,
        Code={"ZipFile": zipped({"app.py": HANDLER})},
        Runtime=RUNTIME,
        Handler="app.handler",
        Role=ROLE,
        Timeout=20,
    )
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return aws


def invoke(aws: Any, name: str = "f", **event: Any) -> Any:
    answer = aws.invoke(FunctionName=name, Payload=json.dumps(event))
    assert "FunctionError" not in answer
    return json.loads(answer["Payload"].read())


def certificates(folder: Path) -> dict[str, str]:
    """Of a CA made here, for 127.0.0.1."""
    folder.mkdir()
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    leaf = ca.issue_cert("127.0.0.1")
    (folder / "role.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(folder / "role.key")
    return {
        "LAMBENT_INTERNAL_TLS_CERT": str(folder / "role.pem"),
        "LAMBENT_INTERNAL_TLS_KEY": str(folder / "role.key"),
        "LAMBENT_INTERNAL_TLS_CA": str(folder / "ca.pem"),
    }


@pytest.mark.parametrize("how", ["key", "certificates"])
def test_roles_that_prove_themselves_work_together(tmp_path: Path, how: str) -> None:
    environment = {"LAMBENT_CLUSTER_KEY": "a key of this test alone"}
    if how == "certificates":
        environment = certificates(tmp_path / "certificates")
    with ClusterOf(tmp_path, environment=environment) as cluster:
        aws = create(cluster)
        assert invoke(aws, a=1) == {"a": 1}
        assert aws.invoke(FunctionName="f", InvocationType="Event", Payload=b"{}")["StatusCode"] == 202


def test_an_executor_without_the_clusters_key_is_given_nothing(tmp_path: Path) -> None:
    with ClusterOf(tmp_path, executors=2, environment={"LAMBENT_CLUSTER_KEY": "a key of this test"}) as cluster:
        create(cluster)
        stranger = cluster.executors[1]
        stranger.stop()
        stranger.environment["LAMBENT_CLUSTER_KEY"] = "not the key of this test"
        stranger.start()
        aws = cluster.gateways[0].client()
        for number in range(10):
            assert invoke(aws, n=number) == {"n": number}
        assert "LAMBENT_CLUSTER_KEY" in stranger.output()  # why it is alone


def test_a_new_executor_is_used_and_an_old_one_leaves_without_a_failed_request(tmp_path: Path) -> None:
    with ClusterOf(tmp_path) as cluster:
        aws = create(cluster)
        assert invoke(aws) == {}
        old = cluster.executors[0]
        new = cluster.add_executor().start()
        waiting = cluster.gateways[0].client()
        old.signal(signal.SIGTERM)
        until = time.monotonic() + 15
        count = 0
        while old.alive or count < 20:
            assert invoke(waiting, n=count) == {"n": count}
            count += 1
            assert time.monotonic() < until, "the old one does not end"
        assert old.process is not None and old.process.returncode == 0
        assert invoke(aws, at="the new one") == {"at": "the new one"}
        assert new.alive


def test_functions_reach_the_api_through_their_executor(tmp_path: Path) -> None:
    code = (
        "import json, os, urllib.request\n"
        "def handler(event, context):\n"
        "    url = os.environ['AWS_ENDPOINT_URL_LAMBDA'] + '/2015-03-31/functions/f/invocations'\n"
        "    asked = urllib.request.Request(url, b'{\"inner\": 1}', method='POST')\n"
        "    return json.loads(urllib.request.urlopen(asked, timeout=10).read())\n"
    )
    with ClusterOf(tmp_path) as cluster:
        aws = create(cluster)
        aws.create_function(
            FunctionName="outer",
            Code={"ZipFile": zipped({"app.py": code})},
            Runtime=RUNTIME,
            Handler="app.handler",
            Role=ROLE,
            Timeout=20,
        )
        aws.get_waiter("function_active_v2").wait(FunctionName="outer", WaiterConfig={"Delay": 1})
        assert invoke(aws, "outer") == {"inner": 1}


def test_a_response_is_streamed_through_a_gateway(tmp_path: Path) -> None:
    code = streamer(
        """
        def respond(event):
            yield "first"
            time.sleep(event["s"])
            for _ in range(64):
                yield b"x" * 65536
        """
    )
    with ClusterOf(tmp_path) as cluster:
        aws = cluster.gateways[0].client()
        aws.create_function(
            FunctionName="streams",
            Code={"ZipFile": zipped({"app.py": code})},
            Runtime=RUNTIME,
            Handler="app.handler",
            Role=ROLE,
            Timeout=2,
        )
        aws.get_waiter("function_active_v2").wait(FunctionName="streams", WaiterConfig={"Delay": 1})
        for seconds, expected, failure in ((0, 5 + (4 << 20), None), (60, 5, "Sandbox.Timedout")):
            answer = aws.invoke_with_response_stream(FunctionName="streams", Payload=json.dumps({"s": seconds}))
            got, end = 0, None
            for event in answer["EventStream"]:
                if "InvokeComplete" in event:
                    end = event["InvokeComplete"]
                else:
                    got += len(event["PayloadChunk"]["Payload"])
            answer["EventStream"].close()
            assert (got, (end or {}).get("ErrorCode")) == (expected, failure)


def test_a_function_url_made_at_one_gateway_is_served_by_the_other(tmp_path: Path) -> None:
    with ClusterOf(tmp_path, gateways=2) as cluster:
        one, other = cluster.gateways
        create(cluster)
        made = one.client().create_function_url_config(FunctionName="f", AuthType="NONE")
        host = urlsplit(made["FunctionUrl"]).hostname or ""
        address = urlsplit(other.url).netloc

        def ask() -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(address, timeout=60)
            try:
                connection.request("GET", "/deep?q=1", headers={"Host": host})
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()

        status, body = ask()
        assert status == 200 and json.loads(body)["rawPath"] == "/deep"
        one.client().delete_function_url_config(FunctionName="f")
        until(lambda: ask()[0] == 404, 10, "the other gateway knows that it is gone")
