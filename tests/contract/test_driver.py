"""What every driver promises, run on each: `base.Driver` and `base.Sandbox`."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from driver_support import Spec, ended, fork_maker, read_line, spec_maker, until_parked
from support import require

from lambent.executor.drivers.base import Driver, DriverConfig, Exit
from lambent.executor.drivers.plain import PlainDriver
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.kernel.errors import ServiceException


@pytest.fixture(params=["sandbox", "forked", "plain"])
def kind(request: pytest.FixtureRequest) -> str:
    """`forked`: the sandbox driver, where every start is a slot or a fork of a zygote."""
    made: str = request.param
    return made


@pytest.fixture
async def driver(kind: str, spec: Spec, tmp_path: Path) -> AsyncIterator[Driver]:
    slots = 4 if kind == "forked" else 0
    config = DriverConfig(tmp_path / "state", f"contract-{os.getpid()}", 1_600_000, 64, parked_slots=slots)
    if kind == "plain":
        plain = PlainDriver(config)
        await plain.open()
        yield plain
        await plain.close()
        return
    made = SandboxDriver(config, None)
    await made.open()
    if slots:
        await until_parked(made, spec)
    yield made
    await made.close()


@pytest.fixture
def spec(kind: str, tmp_path: Path) -> Spec:
    return fork_maker(tmp_path) if kind == "forked" else spec_maker(tmp_path)


async def test_it_says_how_it_was_started(driver: Driver, spec: Spec, kind: str) -> None:
    sandbox = await driver.start(spec("pass"))
    assert sandbox.start == {"forked": "parked"}.get(kind, "plain")
    await sandbox.dispose()


async def test_the_exit_code_is_reported(driver: Driver, spec: Spec) -> None:
    sandbox = await driver.start(spec("import sys; sys.exit(7)"))
    assert await ended(sandbox) == Exit(code=7)
    await sandbox.dispose()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
        ("import os; os.abort()", signal.SIGABRT),
        ("import os; os.kill(os.getpid(), 9)", signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 15)", signal.SIGTERM),
    ],
)
async def test_a_process_that_a_signal_ends_is_reported_with_that_signal(
    driver: Driver, spec: Spec, code: str, number: int
) -> None:
    sandbox = await driver.start(spec(code))
    assert await ended(sandbox) == Exit(signal=number)
    await sandbox.dispose()


async def test_output_carries_stdout_and_stderr_and_ends_with_the_process(driver: Driver, spec: Spec) -> None:
    code = "import os, sys; print('out', flush=True); print('err', file=sys.stderr, flush=True)"
    sandbox = await driver.start(spec(code))
    assert [await read_line(sandbox) for _ in range(3)] == ["out", "err", ""]
    await sandbox.dispose()


async def test_the_process_gets_exactly_the_given_variables_and_its_code_folder(
    driver: Driver, spec: Spec, tmp_path: Path
) -> None:
    (tmp_path / "task" / "app.txt").write_text("code")
    code = "import os; print(sorted(n for n in os.environ if n != 'LC_CTYPE'), open('app.txt').read())"
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "['AWS_LAMBDA_RUNTIME_API', 'GREETING'] code"
    await sandbox.dispose()


async def test_the_listener_answers_at_the_runtime_api_address(driver: Driver, spec: Spec) -> None:
    code = (
        "import os, socket; host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':'); "
        "s = socket.create_connection((host, int(port))); print(s.recv(5).decode(), flush=True)"
    )
    sandbox = await driver.start(spec(code))
    loop = asyncio.get_running_loop()
    connection, _ = await asyncio.wait_for(loop.sock_accept(sandbox.listener), 20)
    with connection:
        await loop.sock_sendall(connection, b"event")
    assert await read_line(sandbox) == "event"
    await sandbox.dispose()


async def test_kill_ends_the_whole_process_tree(driver: Driver, spec: Spec) -> None:
    code = "import os, time; pid = os.fork(); print(pid, flush=True); time.sleep(600)"
    sandbox = await driver.start(spec(code))
    await read_line(sandbox)
    sandbox.kill()
    assert await ended(sandbox) == Exit(signal=signal.SIGKILL)
    assert {await read_line(sandbox), await read_line(sandbox)} >= {""}  # nobody holds the pipe any more
    await sandbox.dispose()


async def test_children_do_not_outlive_the_runtime_process(driver: Driver, spec: Spec) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(600)\nprint('up', flush=True)"
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "up"
    assert await ended(sandbox) == Exit(code=0)
    assert await read_line(sandbox) == ""
    await sandbox.dispose()


async def test_a_signal_reaches_the_runtime_process(driver: Driver, spec: Spec) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); "
        "print('up', flush=True); time.sleep(600)"
    )
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "up"
    sandbox.signal(signal.SIGTERM)
    assert await ended(sandbox) == Exit(code=3)
    await sandbox.dispose()


async def test_a_frozen_environment_stands_still_and_goes_on_when_thawed(driver: Driver, spec: Spec) -> None:
    freeze = next(one for one in driver.enforcement() if one.name == "freeze")
    require("enforced freeze", freeze.enforced or "SIGSTOP" in freeze.how, f"{freeze.how}. {freeze.advice}")
    code = "import sys\nprint('up', flush=True)\nwhile True: print('tick', flush=True)"
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "up"
    sandbox.freeze()
    while True:  # what was written before it stood still
        try:
            os.read(sandbox.output, 1 << 20)
        except BlockingIOError:
            await asyncio.sleep(0.05)
            try:
                os.read(sandbox.output, 1 << 20)
            except BlockingIOError:
                break
    sandbox.thaw()
    assert "tick" in (await read_line(sandbox)) + (await read_line(sandbox))
    sandbox.freeze()
    sandbox.kill()
    assert await ended(sandbox) == Exit(signal=signal.SIGKILL)
    await sandbox.dispose()


@pytest.mark.parametrize("frozen", [False, True], ids=["idle", "frozen"])
async def test_a_process_that_dies_is_known_to_before_its_exit_is_told(
    driver: Driver, spec: Spec, frozen: bool
) -> None:
    sandbox = await driver.start(spec("import time; time.sleep(60)"))
    assert sandbox.alive()
    if frozen:
        sandbox.freeze()
    sandbox.signal(signal.SIGKILL)
    if frozen:
        sandbox.thaw()
    # The loop has no turn here, so `exited` cannot have been told.
    at_once = frozen and isinstance(driver, SandboxDriver)  # what is pending counts there
    until = time.monotonic() + (0 if at_once else 10)
    while sandbox.alive():
        assert time.monotonic() < until
    assert not sandbox.exited.done()
    await ended(sandbox)
    assert not sandbox.alive()
    await sandbox.dispose()


async def test_memory_and_cpu_time_are_counted(driver: Driver, spec: Spec) -> None:
    code = (
        "import time; data = bytearray(64 << 20); end = time.process_time() + 0.2\n"
        "while time.process_time() < end: pass\nprint('up', flush=True); time.sleep(600)"
    )
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "up"
    assert 64 << 20 <= sandbox.used()[0] < 128 << 20
    assert 200_000 <= sandbox.used()[1] < 5_000_000
    await sandbox.dispose()
    assert sandbox.used()[0] >= 64 << 20  # still known


async def test_the_memory_of_what_was_killed_is_known(driver: Driver, spec: Spec) -> None:
    code = "import time; data = bytearray(64 << 20); print('up', flush=True); time.sleep(600)"
    sandbox = await driver.start(spec(code))
    assert await read_line(sandbox) == "up"
    sandbox.kill()
    await ended(sandbox)
    assert 64 << 20 <= sandbox.used()[0] < 128 << 20
    await sandbox.dispose()


async def test_dispose_ends_a_running_process_and_may_be_repeated(driver: Driver, spec: Spec) -> None:
    sandbox = await driver.start(spec("import time; time.sleep(600)"))
    await asyncio.gather(sandbox.dispose(), sandbox.dispose())
    await sandbox.dispose()
    assert sandbox.exited.result().signal == signal.SIGKILL
    with pytest.raises(OSError):
        os.fstat(sandbox.listener.fileno())


async def test_a_program_that_is_not_there_is_refused_by_name(driver: Driver, spec: Spec) -> None:
    with pytest.raises(ServiceException, match=r"/no/such/program|no/such"):
        await driver.start(spec("", argv=("/no/such/program",)))
    sandbox = await driver.start(spec("pass"))  # and the next start works, under the same id
    assert await ended(sandbox) == Exit(code=0)
    await sandbox.dispose()


async def test_closing_ends_every_environment(driver: Driver, spec: Spec) -> None:
    sandboxes = [await driver.start(spec("import time; time.sleep(600)", id=f"e{i}")) for i in range(3)]
    await driver.close()
    assert [one.exited.result().signal for one in sandboxes] == [signal.SIGKILL] * 3


async def test_enforcement_gives_advice_for_everything_that_is_not_enforced(driver: Driver) -> None:
    said = driver.enforcement()
    assert {one.name for one in said} >= {"namespaces", "memory", "cpu", "processes", "freeze", "network"}
    assert all(one.how and (one.enforced or one.advice) for one in said)
