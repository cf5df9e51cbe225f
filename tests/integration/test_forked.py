"""Environments that are forks of a zygote, with the real runtime client: they are what a plain start is,
they know nothing of each other, and whatever dies leaves nothing."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from driver_support import ended, fork_maker, read_line, until_parked
from forking import World, forking

from lambent.executor.drivers.base import DriverConfig, EnvironmentSpec, Exit
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.drivers.sandbox.spawning import ZygoteProcess
from lambent.executor.runtimes.family import RuntimeCommand
from lambent.executor.runtimes.interpreters import Interpreters
from lambent.executor.runtimes.registry import Runtimes

OWN = f"python3.{sys.version_info.minor}"
SLEEP = "print('\"up\"', flush=True)\nimport time; time.sleep(600)"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> RuntimeCommand:
    runtimes = Runtimes(tmp_path_factory.mktemp("data"))
    runtimes.scan()
    return runtimes.command(OWN, "app.handler")


@pytest.fixture
async def world(command: RuntimeCommand, tmp_path: Path) -> AsyncIterator[World]:
    async with forking(command, tmp_path) as made:
        await made.parked()
        yield made


# ---- as a plain start -------------------------------------------------------------------------------------

LOOK = """
    import gc, inspect, json, logging, os, signal, sys, time
    modules = sorted(sys.modules)
    def text(path):
        with open(path) as file:
            return file.read()
    lines = text("/proc/self/status").splitlines()
    status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
    kept = ("Name", "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "SigCgt",
            "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Threads", "PPid")
    def described(stream):
        told = [stream.encoding, stream.errors, stream.line_buffering, stream.isatty(), stream.fileno()]
        return [*told, stream.mode]
    streams = {"in": sys.stdin, "out": sys.__stdout__, "err": sys.__stderr__}
    main = sys.modules["__main__"]
    print(json.dumps({
        "environ": sorted(os.environ.items()),
        "shown": sorted(text("/proc/self/environ").split("\\0")),
        "command": text("/proc/self/cmdline"),
        "path": sys.path,
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "flags": repr(sys.flags),
        "modules": modules,
        "signals": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "streams": {name: described(stream) for name, stream in streams.items()},
        "status": {name: status[name] for name in kept},
        "ids": [os.getpid(), os.getppid(), os.getsid(0), os.getpgrp()],
        "nice": os.nice(0),
        "limits": text("/proc/self/limits"),
        "oom": text("/proc/self/oom_score_adj"),
        "cwd": os.getcwd(),
        "collecting": gc.isenabled(),
        "host": os.uname()[1],
        "mounts": sorted(line.split()[4:6] for line in text("/proc/self/mountinfo").splitlines()),
        "folders": {folder: sorted(os.listdir(folder)) for folder in ("/", "/opt", "/tmp", "/home", "/var")},
        "logging": [logging.getLogger().handlers[0].formatter._fmt, logging.getLogger().level],
        "main": [main.__file__, sorted(vars(main))],
        "depth": len(inspect.stack()),
        "zone": time.tzname,
        "quit": callable(quit),
    }))
    def handler(event, context): pass
"""


async def look(command: RuntimeCommand, folder: Path, *, slots: int, **changes: Any) -> dict[str, Any]:
    async with forking(command, folder, slots=slots) as world:
        if slots:
            await world.parked()
        seen: dict[str, Any] = await world.says(LOOK, start="parked" if slots else "plain", **changes)
        return seen


@pytest.mark.parametrize(
    "env",
    [
        {"GREETING": "hello = there", "EMPTY": ""},
        {"PYTHONPATH": "/opt/one:/var/task/two"},
        {"TZ": "America/New_York"},
        {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"},
    ],
    ids=lambda env: "-".join(env),
)
async def test_a_forked_process_is_like_one_that_was_started(
    command: RuntimeCommand, tmp_path: Path, env: Mapping[str, str]
) -> None:
    (tmp_path / "layer").mkdir()
    layer = {"opt_dir": tmp_path / "layer"} if "PYTHONPATH" in env else {}
    plain = await look(command, tmp_path, slots=0, env=env, **layer)
    forked = await look(command, tmp_path, slots=2, env=env, **layer)
    differing = {name: (value, plain[name]) for name, value in forked.items() if value != plain[name]}
    assert differing == {}, "".join(f"\n{name}\n{one}\n{two}" for name, (one, two) in differing.items())


async def test_a_variable_that_acts_at_the_start_of_a_process_acts(world: World) -> None:
    code = "import json, sys; print(json.dumps([sys.flags.optimize]))"
    assert await world.says(code, start="plain", env={"PYTHONOPTIMIZE": "1"}) == [1]
    assert await world.says(code) == [0]  # the control


async def test_another_size_of_tmp_is_forked_for_the_start(world: World) -> None:
    code = "import json, os; s = os.statvfs('/tmp'); print(json.dumps([s.f_blocks * s.f_frsize]))"
    small = (await world.says(code))[0]
    large = (await world.says(code, start="forked", ephemeral_mb=1024))[0]
    assert large > 1.9 * small > 800 << 20


async def test_a_fork_has_random_numbers_and_ids_of_its_own(world: World) -> None:
    code = """
        import json, os, random, secrets, ssl, tempfile, uuid
        print(json.dumps([random.random(), random.randrange(1 << 60), str(uuid.uuid4()), secrets.token_hex(8),
                          ssl.RAND_bytes(8).hex(), os.urandom(8).hex(), tempfile.mktemp()]))
    """
    await world.parked(2)
    one, two = [await world.says(code) for _ in range(2)]
    assert not set(one) & set(two)


# ---- what was loaded before -------------------------------------------------------------------------------


async def test_a_function_has_what_its_zygote_has_loaded_for_itself(world: World) -> None:
    code = """
        import ctypes, json, resource, socket, ssl, sys
        text = ctypes.create_string_buffer(b"abc")
        one, two = socket.socketpair()
        one.send(b"x")
        core = resource.getrlimit(resource.RLIMIT_CORE)[0]
        print(json.dumps([text.value.decode(), two.recv(1).decode(), core, "lambent" in sys.modules,
                          ctypes.__spec__.loader is not None, ctypes.__name__]))
    """
    assert await world.says(code) == ["abc", "x", 0, False, True, "ctypes"]


async def test_a_functions_own_module_wins_over_one_that_is_loaded(world: World) -> None:
    files = {
        "app.py": "import ctypes, json, socket, lambent\n"
        "print(json.dumps([ctypes.WHOSE, socket.socket.__module__, lambent.WHOSE]))",
        "ctypes.py": "WHOSE = 'mine'",
        "lambent/__init__.py": "WHOSE = 'mine'",
    }
    assert await world.says(files) == ["mine", "socket", "mine"]


BOTO3 = """
    import json, sys
    before = "boto3" in sys.modules or "botocore" in sys.modules
    import boto3
    client = boto3.client("s3", region_name="us-east-1")
    print(json.dumps([before, type(client).__name__, "botocore.client" in sys.modules, boto3.__file__]))
    def handler(event, context): pass
"""


async def test_boto3_is_there_and_was_not_before(command: RuntimeCommand, tmp_path: Path) -> None:
    async with forking(command, tmp_path) as world:
        await world.parked(code=BOTO3)
        assert await world.says(BOTO3) == [False, "S3", True, "/var/runtime/boto3/__init__.py"]


async def test_a_functions_own_botocore_is_what_boto3_uses(command: RuntimeCommand, tmp_path: Path) -> None:
    own = {
        "app.py": """
            import json
            try:
                import boto3
            except Exception as failure:
                print(json.dumps([str(failure)]))
        """,
        "botocore/__init__.py": "raise RuntimeError('mine')",
    }
    async with forking(command, tmp_path) as world:
        await world.parked(code=BOTO3)
        assert await world.says(own) == ["mine"]


async def test_a_hook_on_imports_sees_what_was_loaded(command: RuntimeCommand, tmp_path: Path) -> None:
    code = """
        import json, sys
        class Hook:
            seen = []
            def find_spec(self, name, path=None, target=None):
                self.seen.append(name)
        sys.meta_path.insert(0, Hook())
        import boto3
        wanted = ("boto3", "boto3.session", "botocore", "botocore.client")
        print(json.dumps([name in Hook.seen for name in wanted]))
    """
    async with forking(command, tmp_path) as world:
        await world.parked(code=BOTO3)
        assert await world.says(code) == [True] * 4


# ---- apart from each other --------------------------------------------------------------------------------

REACH = """
    import ctypes, errno, json, os, socket
    libc = ctypes.CDLL(None, use_errno=True)
    def outcome(act):
        try:
            act()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"
    def call(number, *arguments):
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")
    def scan(halves):
        first_half, second_half = map(bytes.fromhex, halves)  # never joined, or it would find that
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps:
                first, end = (int(bound, 16) for bound in line.split()[0].split("-"))
                if "r" not in line.split()[1] or "[v" in line:
                    continue
                memory.seek(first)
                try:
                    content = memory.read(end - first)
                except OSError:
                    continue
                at = content.find(first_half)
                while at >= 0:
                    if content.startswith(second_half, at + len(first_half)):
                        return True
                    at = content.find(first_half, at + 1)
        return False
    numbers = range(1, 4096)
    seen = [number for number in numbers if os.path.exists(f"/proc/{number}")]
    others = [number for number in numbers if number != os.getpid()]
    print(json.dumps({
        "processes": seen,
        "kill": sorted({outcome(lambda: os.kill(number, 0)) for number in others}),
        "kill init": outcome(lambda: os.kill(1, 9)),
        "trace": sorted({outcome(lambda: call(101, 16, number, 0, 0)) for number in others}),
        "read init": outcome(lambda: open("/proc/1/mem", "rb").close()),
        "environ of init": outcome(lambda: open("/proc/1/environ", "rb").read()),
        "unix sockets": open("/proc/net/unix").read().splitlines()[1:],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "sibling's variable": scan(json.loads(os.environ["HALVES"])),
        "own variable": scan([part.encode().hex() for part in ("planted", "-here")]),
        "keep": os.environ["PLANTED"],
    }))
    def handler(event, context): pass
"""


async def test_a_function_reaches_neither_the_zygote_nor_a_sibling(world: World) -> None:
    secret = os.urandom(12).hex()
    await world.parked(2)
    sibling = await world.start(SLEEP, env={"SECRET": secret})
    assert sibling.start == "parked"
    assert await read_line(sibling) == '"up"'
    halves = f'["{secret[:12].encode().hex()}", "{secret[12:].encode().hex()}"]'
    said = await world.says(REACH, env={"HALVES": halves, "PLANTED": "planted-here"})
    assert said.pop("own variable") and said.pop("keep")  # the control: it finds what is there
    assert said == {
        "processes": [1, 2],
        "kill": ["EPERM", "ESRCH"],
        "kill init": "EPERM",
        "trace": ["EPERM"],
        "read init": "EACCES",
        "environ of init": "EACCES",
        "unix sockets": [],
        "descriptors": ["0", "1", "2", "3"],  # 3 is the folder that is listed
        "sibling's variable": False,
    }
    await sibling.dispose()


async def test_a_zygote_has_one_thread_its_socket_and_nothing_of_the_server(world: World) -> None:
    pid = world.zygotes()[0].pid()
    kinds = sorted(
        os.readlink(f"/proc/{pid}/fd/{number}").split(":")[0] for number in os.listdir(f"/proc/{pid}/fd")
    )
    # its socket, its end of the pipe that it speaks to at the end, what wakes it, its PID namespace
    assert kinds == ["/dev/null", "pid", "pipe", "pipe", "pipe", "pipe", "socket"]
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    assert {name.partition("=")[0] for name in variables} == {"", "LANG", "LD_LIBRARY_PATH", "PATH", "TZ"}
    mounts = [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    assert "/home" not in mounts and str(world.folder) not in " ".join(mounts)


# ---- deaths -----------------------------------------------------------------------------------------------


def groups(world: World) -> list[str]:
    tree = world.driver._abilities.tree
    return (
        sorted({child.name for folder in tree.folders() for child in folder.iterdir() if child.is_dir()})
        if tree
        else []
    )


async def until_gone(world: World, *pids: int) -> None:
    async with asyncio.timeout(20):
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            await asyncio.sleep(0.01)


async def test_what_is_expected_is_parked_before_the_first_start(
    command: RuntimeCommand, tmp_path: Path
) -> None:
    async with forking(command, tmp_path) as world:
        world.driver.expect(world.spec("print('[0]')", env={"PYTHONOPTIMIZE": "1"}))
        assert not world.driver._parking._lines, "this one cannot be forked"
        world.driver.expect(world.spec("print('[1]')"))
        async with asyncio.timeout(20):
            while not world.driver.parked:
                await asyncio.sleep(0.01)
        assert await world.says("print('[1]')", start="parked") == [1]


async def test_a_slot_that_dies_is_freed_and_another_one_made(world: World) -> None:
    await world.parked(2)
    slot = world.slots()[0]
    os.kill(slot.pid(), signal.SIGKILL)
    await ended(slot)
    await slot.dispose()
    await world.parked(2)
    assert slot not in world.slots() and slot.key not in groups(world)
    assert await world.says("print('[1]')") == [1]


async def test_with_a_zygote_its_environments_end_and_the_next_starts_work(world: World) -> None:
    await world.parked(2)
    sandbox = await world.start(SLEEP)
    assert await read_line(sandbox) == '"up"'
    zygote, slots = world.zygotes()[0], world.slots()
    os.kill(zygote.pid(), signal.SIGKILL)
    assert await ended(sandbox) == Exit(signal=signal.SIGKILL)
    for slot in slots:
        await ended(slot)
    await sandbox.dispose()
    assert await world.says("print('[1]')", start="plain") == [1]
    await world.parked()
    assert await world.says("print('[2]')") == [2]
    assert zygote not in world.zygotes()


async def test_a_zygote_that_cannot_be_made_leaves_plain_starts(
    command: RuntimeCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    async def fail(self: ZygoteProcess, *_: object) -> None:
        tried.set()
        raise OSError("no zygote here")

    monkeypatch.setattr(ZygoteProcess, "open", fail)
    async with forking(command, tmp_path) as world:
        assert await world.says("print('[1]')", start="plain") == [1]
        await asyncio.wait_for(tried.wait(), 20)
        assert await world.says("print('[2]')", start="plain") == [2]
        assert world.driver._parking.how == "each is started plainly: no zygote here"


async def test_closing_leaves_no_process_group_or_mount(command: RuntimeCommand, tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    async with forking(command, tmp_path) as world:
        await world.parked(2)
        running = await world.start(SLEEP)
        zygote = world.zygotes()[0].pid()
        pids = [zygote, *running.pids(), *(pid for slot in world.slots() for pid in slot.pids())]
        watched = [os.pidfd_open(pid) for pid in pids]
        tree = world.driver._abilities.tree
    for descriptor in watched:
        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
    assert [str(folder) for folder in tree.folders() if folder.exists()] == [] if tree else True
    assert Path("/proc/self/mountinfo").read_text() == mounts


async def test_fifty_at_once_all_start_and_leave_nothing(world: World) -> None:
    code = "print('[1]', flush=True)\nimport time; time.sleep(600)"
    await world.parked(4)
    before = left_behind(world)

    async def once() -> str:
        sandbox = await world.start(code)
        assert await read_line(sandbox) == "[1]"
        await sandbox.dispose()
        return sandbox.start

    kinds = await asyncio.gather(*(once() for _ in range(50)))
    assert set(kinds) == {"parked", "forked"}
    async with asyncio.timeout(30):
        while left_behind(world) != before:
            await asyncio.sleep(0.05)


def left_behind(world: World) -> dict[str, int]:
    """What a leak would make grow, with four slots parked."""
    pid = world.zygotes()[0].pid()
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return {
        "slots": world.driver.parked,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "of the zygote": len(os.listdir(f"/proc/{pid}/fd")),
        "its processes": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
        "its mounts": len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
        "groups": len(groups(world)),
        "loop devices": sum(str(world.folder) in text for text in backing),
        "uids": len(world.driver._uids),
    }


_HOLDER = """
import asyncio, sys
from pathlib import Path
from driver_support import fork_maker, read_line, until_parked
from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox.driver import SandboxDriver

async def main():
    folder = Path(sys.argv[1])
    driver = SandboxDriver(DriverConfig(folder / "state", sys.argv[2], 1_750_000, 64, parked_slots=2), None)
    await driver.open()
    spec = fork_maker(folder)
    await until_parked(driver, spec, 2)
    sandbox = await driver.start(spec("print('up', flush=True); import time; time.sleep(600)"))
    await read_line(sandbox)
    await until_parked(driver, spec, 2)
    lines = driver._parking._lines.values()
    slots = [pid for line in lines for slot in line.parked for pid in slot.pids()]
    print(sandbox.start, *sandbox.pids(), *slots, *(line.zygote.pid() for line in lines), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_server_leaves_no_zygote_and_no_slot(tmp_path: Path) -> None:
    instance = f"holder-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path), instance], env=environment, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    with holder.stdout:
        kind, *pids = holder.stdout.readline().split()
    assert kind == b"parked" and len(pids) == 2 + 2 * 2 + 1
    processes = [os.pidfd_open(int(pid)) for pid in pids]
    holder.kill()
    holder.wait()
    for process in processes:
        assert select.select([process], [], [], 10)[0]
        os.close(process)
    driver = SandboxDriver(DriverConfig(tmp_path / "state", instance, 1_750_000, 64), None)
    await driver.open()
    await driver.close()
    tree = driver._abilities.tree
    assert tree is None or [str(folder) for folder in tree.folders() if folder.exists()] == []
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert [text for text in backing if str(tmp_path) in text] == []


_PYTHONS = {interpreter.minor: interpreter for interpreter in reversed(Interpreters().scan()[0])}


@pytest.mark.parametrize("minor", sorted(_PYTHONS))
async def test_every_python_that_functions_may_have_can_be_a_zygote(tmp_path: Path, minor: int) -> None:
    interpreter = _PYTHONS[minor]
    maker = fork_maker(tmp_path)
    argv = (str(interpreter.executable), "-S", "/var/runtime/bootstrap.py")

    def spec(code: str, **changes: Any) -> EnvironmentSpec:
        return maker(code, argv=argv, prefixes=interpreter.prefixes, **changes)

    driver = SandboxDriver(
        DriverConfig(tmp_path / "state", f"minor-{os.getpid()}", 1_750_000, 64, parked_slots=1), None
    )
    await driver.open()
    try:
        await until_parked(driver, spec)
        sandbox = await driver.start(spec("import sys; print(sys.version_info[1], flush=True)"))
        assert (await read_line(sandbox), sandbox.start) == (str(minor), "parked")
        await sandbox.dispose()
    finally:
        await driver.close()
