"""SnapStart as its users have it: a published version's init runs once, and its environments are restored from
what it was then. The functions are of a runtime that AWS restores, on whatever Python is here."""

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError
from running import Functions, Server
from support import require

from lambent.executor.drivers.sandbox import ptrace

RUNTIME = "python3.13"
SNAP_START = {"ApplyOn": "PublishedVersions"}
ORDER = [
    "before 2",
    "before 1",
    "after",
]  # AWS: the last registered goes first, and after the restore the first
CODE = """
    import os, random, secrets, time, uuid
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    ONCE = str(uuid.uuid4())
    ORDER = []
    ROOM = {str(number): number for number in range(20_000)}
    random.seed(7)
    print("init runs")

    @register_before_snapshot
    def first():
        ORDER.append("before 1")

    @register_before_snapshot
    def second():
        ORDER.append("before 2")

    @register_after_restore
    def third():
        ORDER.append("after")

    def handler(event, context):
        time.sleep(event.get("sleep", 0))
        return {
            "once": ONCE,
            "order": ORDER,
            "room": len(ROOM),
            "draws": [random.random(), secrets.token_hex(8), str(uuid.uuid4()), os.urandom(8).hex()],
            "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
            "stream": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
            "version": context.function_version,
        }
"""


@pytest.fixture(scope="module", autouse=True)
def processor() -> None:
    require("x86_64", ptrace.available(), "snapshots are built for x86_64 only")


@pytest.fixture(scope="module")
def snap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    folder = tmp_path_factory.mktemp("snap-start") / "data"
    server = Server(folder, "--no-s3", environment={"LAMBENT_RUNTIME_MATCH": "compatible"}).start()
    yield Functions(server)
    assert server.stop() == 0, server.output()


def published(snap: Functions, name: str) -> str:
    """The number of a new version, once it is Active."""
    version = str(snap.aws.publish_version(FunctionName=name)["Version"])
    waiter = snap.aws.get_waiter("published_version_active")
    waiter.wait(FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 1})
    return version


def made(snap: Functions, code: str, **members: Any) -> str:
    return snap.create(code, Runtime=RUNTIME, SnapStart=SNAP_START, **members)


def starts(server: Server, kind: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    wanted = f'lambent_environment_starts_total{{kind="{kind}"}} '
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def test_a_versions_environments_are_restored_from_one_init(snap: Functions) -> None:
    name = made(snap, CODE)
    assert snap.aws.get_function_configuration(FunctionName=name)["SnapStart"] == {
        "ApplyOn": "PublishedVersions",
        "OptimizationStatus": "Off",
    }
    version = published(snap, name)
    told = snap.aws.get_function_configuration(FunctionName=name, Qualifier=version)
    assert (told["State"], told["SnapStart"]["OptimizationStatus"]) == ("Active", "On")
    before = starts(snap.server, "restored")
    with ThreadPoolExecutor(3) as pool:  # three at once: three environments
        answers = list(
            pool.map(lambda _: Functions(snap.server).invoke(name, {"sleep": 3}, Qualifier=version), range(3))
        )
    assert [answer.error for answer in answers] == [None] * 3, answers[0].payload
    assert starts(snap.server, "restored") == before + 3
    results = [answer.result for answer in answers]
    draws = [draw for result in results for draw in result.pop("draws")]
    assert len(set(draws)) == len(draws), "each draws numbers of its own"
    assert results[0] == results[1] == results[2]
    assert results[0]["order"] == ORDER
    assert (results[0]["room"], results[0]["type"], results[0]["stream"]) == (20_000, "snap-start", None)
    assert results[0]["version"] == version
    assert "\tRestore Duration: " in answers[0].log and "\tBilled Restore Duration: " in answers[0].log
    assert "Init Duration" not in answers[0].log
    again = snap.invoke(name, Qualifier=version)
    assert again.result["order"] == results[0]["order"], "restored once"
    assert "Restore Duration" not in again.log
    lines = snap.logged(name, until="RESTORE_REPORT Restore Duration: ")
    assert lines.count("init runs") == 1
    assert any(line.startswith("RESTORE_START Runtime Version: python:3.") for line in lines)


def test_latest_is_never_restored(snap: Functions) -> None:
    name = made(snap, CODE)
    published(snap, name)
    before = starts(snap.server, "restored")
    answer = snap.invoke(name)
    assert (answer.result["type"], answer.result["order"]) == ("on-demand", [])
    assert starts(snap.server, "restored") == before and "Init Duration" in answer.log


def test_a_version_is_not_ready_before_its_snapshot_is(snap: Functions) -> None:
    name = made(snap, "import time\ntime.sleep(2)\ndef handler(event, context):\n    return 1\n")
    answer = snap.aws.publish_version(FunctionName=name)
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    with pytest.raises(ClientError) as failure:
        snap.aws.invoke(FunctionName=name, Qualifier=answer["Version"])
    assert failure.value.response["Error"]["Code"] == "SnapStartNotReadyException"
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    snap.aws.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier=answer["Version"], WaiterConfig={"Delay": 1}
    )
    assert snap.invoke(name, Qualifier=answer["Version"]).result == 1


def test_a_version_that_is_published_with_its_function_is_prepared_too(snap: Functions) -> None:
    name = made(snap, CODE, Publish=True)
    snap.aws.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1}
    )
    assert "Restore Duration" in snap.invoke(name, Qualifier="1").log


def test_what_cannot_be_kept_is_started_and_the_log_says_why(snap: Functions) -> None:
    code = (
        CODE
        + "    import threading\n    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    )
    name = made(snap, code)
    version = published(snap, name)
    before = starts(snap.server, "restored")
    answer = snap.invoke(name, Qualifier=version)
    assert (answer.error, answer.result["order"]) == (None, ORDER)
    assert starts(snap.server, "restored") == before
    lines = snap.logged(name, until="SnapStart: no snapshot")
    assert any("its init has started threads (1 are alive)" in line for line in lines)


def test_an_init_that_fails_fails_the_version(snap: Functions) -> None:
    name = made(snap, "raise ValueError('no key')\ndef handler(event, context): pass\n")
    version = snap.aws.publish_version(FunctionName=name)["Version"]
    with pytest.raises(WaiterError):
        snap.aws.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
    told = snap.aws.get_function_configuration(FunctionName=name, Qualifier=version)
    assert (told["State"], told["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")
    assert "no key" in told["StateReason"]


def test_a_hook_that_fails_after_the_restore_is_the_callers_error(snap: Functions) -> None:
    code = """
        from snapshot_restore_py import register_after_restore
        @register_after_restore
        def after():
            raise ValueError("no connection")
        def handler(event, context): pass
    """
    name = made(snap, code)
    version = published(snap, name)
    with pytest.raises(ClientError, match="no connection") as failure:
        snap.aws.invoke(FunctionName=name, Qualifier=version)
    assert failure.value.response["Error"]["Code"] == "SnapStartException"
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_what_aws_does_not_restore_is_refused(snap: Functions) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"Runtime": "python3.11"}, "python3.11 is not supported for SnapStart enabled functions"),
        ({"EphemeralStorage": {"Size": 513}}, "ephemeral storage"),
    )
    for members, why in refused:
        with pytest.raises(ClientError, match=why):
            snap.create(CODE, **{"Runtime": RUNTIME, "SnapStart": SNAP_START, **members})
    name = made(snap, CODE)
    version = published(snap, name)
    with pytest.raises(ClientError, match="SnapStart and Provisioned Concurrency"):
        snap.aws.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1
        )


def test_a_snapshot_that_was_lost_is_made_again(snap: Functions) -> None:
    """By a restart, say: the first start does without, later ones are restored."""
    name = made(snap, CODE)
    version = published(snap, name)
    assert snap.server.stop() == 0
    snap.server.start()
    functions = Functions(snap.server)
    first = functions.invoke(name, Qualifier=version)
    assert first.result["order"] == ORDER

    def at_once(count: int) -> None:
        def one(_: int) -> Any:
            return Functions(snap.server).invoke(name, {"sleep": 0.3}, Qualifier=version)

        with ThreadPoolExecutor(count) as pool:
            assert [answer.error for answer in pool.map(one, range(count))] == [None] * count

    until, count = time.monotonic() + 60, 2
    while starts(snap.server, "restored") == 0:
        assert time.monotonic() < until, "none is restored"
        at_once(count)  # one environment more than there is
        count += 1
