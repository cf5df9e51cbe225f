"""The sandbox driver beyond the contract: limits that hold, failures that leave nothing, deaths that are
noticed."""

import asyncio
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from driver_support import Spec, ended, read_line, spec_maker
from support import require

from lambent.executor.drivers.base import DriverConfig, Exit, Limits, Sandbox
from lambent.executor.drivers.sandbox import cgroups
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.drivers.sandbox.netport import Attachment, SocketSpec
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.kernel import disk
from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Enforcement

INSTANCE = f"test-{os.getpid()}"


def config(tmp_path: Path, **changes: int) -> DriverConfig:
    return DriverConfig(tmp_path / "state", INSTANCE, 1_700_000, 64, limits=Limits(**changes))


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SandboxDriver]:
    made = SandboxDriver(config(tmp_path), None)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_maker(tmp_path)


async def output_of(driver: SandboxDriver, spec: Spec, code: str, **changes: object) -> str:
    """The first line that the code prints."""
    sandbox = await driver.start(spec(textwrap.dedent(code), **changes))
    line = await read_line(sandbox)
    await sandbox.dispose()
    return line


def entry(driver: SandboxDriver, name: str) -> Enforcement:
    return next(one for one in driver.enforcement() if one.name == name)


def spawner_of(driver: SandboxDriver) -> int:
    assert driver._spawner is not None
    return driver._spawner.pid


def pid_of(sandbox: Sandbox) -> int:
    assert isinstance(sandbox, RunningSandbox)
    return sandbox.pid()


def left_behind(driver: SandboxDriver, state: Path) -> dict[str, object]:
    """Everything of the driver's that a leak would make grow."""
    pid = spawner_of(driver)
    tree = driver._abilities.tree
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "of the spawner": len(os.listdir(f"/proc/{pid}/fd")),
        "processes": Path(f"/proc/{pid}/task/{pid}/children").read_text(),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "mounts of the spawner": len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
        "groups": sorted(c.name for f in tree.folders() for c in f.iterdir() if c.is_dir()) if tree else [],
        "loop devices": [text for text in backing if str(state) in text],
        "uids": len(driver._uids),
        "files": sorted(path.name for path in state.iterdir()),
    }


# ---- what the function is ---------------------------------------------------------------------------------


async def test_the_function_is_993_990_without_capabilities_under_a_filter(
    driver: SandboxDriver, spec: Spec
) -> None:
    code = """
        import json, os
        lines = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines() if ":" in l)
        names = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        print(json.dumps({n: lines[n].split() for n in names}), flush=True)
    """
    said = json.loads(await output_of(driver, spec, code))
    assert said.pop("Uid") == ["993"] * 4
    assert said.pop("Gid") == ["990"] * 4
    assert said.pop("NoNewPrivs") == ["1"]
    assert said.pop("Seccomp") == ["2"]
    assert set(map(tuple, said.values())) == {("0" * 16,)}


async def test_every_namespace_is_its_own(driver: SandboxDriver, spec: Spec) -> None:
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    code = f"import os; print(*[os.readlink(f'/proc/self/ns/{{k}}') for k in {kinds}], flush=True)"
    first = (await output_of(driver, spec, code)).split()
    here = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert len(first) == len(kinds)
    assert not set(first) & set(here)


async def test_only_its_own_processes_are_in_sight(driver: SandboxDriver, spec: Spec) -> None:
    code = "import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), flush=True)"
    assert await output_of(driver, spec, code) == "[1, 2]"


async def test_nothing_but_tmp_can_be_written(driver: SandboxDriver, spec: Spec, tmp_path: Path) -> None:
    code = """
        import errno, os
        def attempt(path):
            try:
                open(path, "w").close()
            except OSError as error:
                return errno.errorcode[error.errno]
            return "written"
        places = "/x /usr/x /etc/x /dev/x /var/task/x /var/runtime/x /opt/x /var/x /home/x /root/x".split()
        print({attempt(p) for p in places}, attempt("/tmp/x"), attempt("/proc/sys/kernel/core_pattern"))
    """
    (tmp_path / "task").chmod(0o777)  # so that only the mount stands in the way
    refused = await output_of(driver, spec, code)
    assert refused == "{'EROFS'} written EROFS"


async def test_tmp_belongs_to_the_function_and_shared_memory_is_not_usable(
    driver: SandboxDriver, spec: Spec
) -> None:
    code = """
        import os
        s = os.stat("/tmp")
        print(s.st_uid, s.st_gid, oct(s.st_mode & 0o7777), os.listdir("/tmp"), os.path.exists("/dev/shm"))
    """
    assert await output_of(driver, spec, code) == "993 990 0o700 [] False"


async def test_pid_1_cannot_be_read_traced_or_ended(driver: SandboxDriver, spec: Spec) -> None:
    code = """
        import errno, os
        found = []
        for attempt in (lambda: open("/proc/1/mem", "r+b"), lambda: os.readlink("/proc/1/fd/0"),
                        lambda: os.readlink("/proc/1/root"), lambda: open("/proc/1/environ").read()):
            try:
                attempt()
                found.append("done")
            except OSError as error:
                found.append(errno.errorcode[error.errno])
        try:
            os.kill(1, 9)
        except PermissionError:
            pass
        print(set(found) <= {"EACCES", "EPERM"}, found, flush=True)
    """
    assert (await output_of(driver, spec, code)).startswith("True")


async def test_no_descriptor_but_input_and_output_reaches_the_function(
    driver: SandboxDriver, spec: Spec
) -> None:
    code = """
        import os
        open_ = []
        for number in range(1024):
            try:
                open_.append(os.readlink(f"/proc/self/fd/{number}").split(":")[0])
            except OSError:
                pass
        print(open_, flush=True)
    """
    assert await output_of(driver, spec, code) == "['/dev/null', 'pipe', 'pipe']"


async def test_orphans_are_reaped(driver: SandboxDriver, spec: Spec) -> None:
    code = """
        import os, time
        r, w = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.write(w, str(os.getpid()).encode())
                os._exit(0)
            os._exit(0)
        os.wait()
        orphan = int(os.read(r, 10))
        while os.path.exists(f"/proc/{orphan}"):
            time.sleep(0.001)
        print("reaped", flush=True)
    """
    assert await output_of(driver, spec, code) == "reaped"


# ---- limits -----------------------------------------------------------------------------------------------


async def test_memory_above_the_limit_kills_and_is_reported(driver: SandboxDriver, spec: Spec) -> None:
    code = "import time; data = bytearray(300 << 20); print('lived', flush=True); time.sleep(600)"
    sandbox = await driver.start(spec(code, memory_mb=128))
    assert await ended(sandbox) == Exit(signal=signal.SIGKILL, oom=True)
    assert sandbox.used()[0] > 100 << 20
    await sandbox.dispose()


async def test_a_kill_is_not_taken_for_an_out_of_memory(driver: SandboxDriver, spec: Spec) -> None:
    sandbox = await driver.start(spec("import time; print('up', flush=True); time.sleep(600)", memory_mb=128))
    await read_line(sandbox)
    sandbox.kill()
    assert await ended(sandbox) == Exit(signal=signal.SIGKILL, oom=False)
    await sandbox.dispose()


async def test_a_full_tmp_gives_enospc_and_not_an_out_of_memory(driver: SandboxDriver, spec: Spec) -> None:
    code = """
        import errno, os
        size = 0
        try:
            with open("/tmp/x", "wb", buffering=0) as f:
                while size < 1 << 30:
                    size += f.write(bytes(1 << 20))
        except OSError as error:
            print(errno.errorcode[error.errno], 250 << 20 <= size <= 262 << 20, flush=True)
    """
    memory, tmp = entry(driver, "memory"), entry(driver, "/tmp size")
    apart = not memory.enforced or "tmpfs" not in tmp.how
    require("enforced /tmp size", apart, f"{tmp.how}. {tmp.advice}")
    assert await output_of(driver, spec, code, memory_mb=128, ephemeral_mb=256) == "ENOSPC True"


async def test_processes_are_limited(tmp_path: Path, spec: Spec) -> None:
    driver = SandboxDriver(config(tmp_path, processes=20), None)
    await driver.open()
    code = """
        import os, time
        made = 0
        try:
            while made < 100:
                if os.fork() == 0:
                    time.sleep(600)
                made += 1
        except BlockingIOError:
            print("EAGAIN", made <= 20, flush=True)
    """
    try:
        assert await output_of(driver, spec, code) == "EAGAIN True"
    finally:
        await driver.close()


async def test_cpu_time_follows_memory_once_init_is_over(driver: SandboxDriver, spec: Spec) -> None:
    cpu = entry(driver, "cpu")
    require("enforced cpu", cpu.enforced, f"{cpu.how}. {cpu.advice}")
    code = """
        import signal, time
        print("up", flush=True)
        signal.sigwait([signal.SIGUSR1])
        wall, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - wall < 1: pass
        print(int(100 * (time.process_time() - cpu)), flush=True)
    """
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + textwrap.dedent(code)
    sandbox = await driver.start(spec(code, memory_mb=177))
    assert await read_line(sandbox) == "up"
    sandbox.initialised()
    sandbox.signal(signal.SIGUSR1)
    assert 5 <= int(await read_line(sandbox)) <= 20  # a tenth of a core
    await sandbox.dispose()


async def test_a_start_that_would_fill_the_disk_is_refused(
    driver: SandboxDriver, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp = entry(driver, "/tmp size")
    require("enforced /tmp size", driver._abilities.images, f"{tmp.how}. {tmp.advice}")
    monkeypatch.setattr(disk, "KEEP_FREE_SHARE", 1.0)
    with pytest.raises(ServiceException, match="no room for 16 MB of /tmp"):
        await driver.start(spec("pass"))
    monkeypatch.undo()
    sandbox = await driver.start(spec("pass"))
    assert await ended(sandbox) == Exit(code=0)
    await sandbox.dispose()


async def test_a_disk_that_is_full_at_the_start_takes_no_ability_away(
    driver: SandboxDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = [(entry.name, entry.enforced) for entry in driver.enforcement()]
    await driver.close()
    monkeypatch.setattr(disk, "KEEP_FREE_SHARE", 1.0)
    again = SandboxDriver(config(tmp_path), None)
    await again.open()
    assert [(entry.name, entry.enforced) for entry in again.enforcement()] == usual
    await again.close()


# ---- nothing is left behind -------------------------------------------------------------------------------


async def test_thirty_starts_leave_nothing(driver: SandboxDriver, spec: Spec, tmp_path: Path) -> None:
    async def once(number: int) -> None:
        code = "open('/tmp/x', 'wb').write(bytes(1 << 20)); import time; time.sleep(600 * " + f"{number % 2})"
        sandbox = await driver.start(spec(code, id=f"e{number}"))
        if number % 3 == 0:
            await sandbox.exited if number % 2 == 0 else sandbox.freeze()
        await sandbox.dispose()

    await asyncio.gather(*(once(number) for number in range(3)))
    before = left_behind(driver, tmp_path / "state")
    for start in range(0, 30, 3):
        await asyncio.gather(*(once(number) for number in range(start, start + 3)))
    assert left_behind(driver, tmp_path / "state") == before


async def test_failed_starts_leave_nothing(driver: SandboxDriver, spec: Spec, tmp_path: Path) -> None:
    async def fail() -> None:
        with pytest.raises(ServiceException, match="file system.*/no/such/task"):
            await driver.start(spec("pass", task_dir=Path("/no/such/task")))
        with pytest.raises(ServiceException, match=r"spawner: .*/no/such/prefix"):
            await driver.start(spec("pass", prefixes=(Path("/no/such/prefix"),)))
        with pytest.raises(ServiceException, match="starting /no/such/program"):
            await driver.start(spec("", argv=("/no/such/program",)))

    await fail()
    before = left_behind(driver, tmp_path / "state")
    for _ in range(3):
        await fail()
    assert left_behind(driver, tmp_path / "state") == before


async def test_a_cancelled_start_leaves_nothing(driver: SandboxDriver, spec: Spec, tmp_path: Path) -> None:
    sandbox = await driver.start(spec("pass"))
    await sandbox.dispose()
    before = left_behind(driver, tmp_path / "state")
    for turns in (1, 2, 5, 9, 20, 50):
        start = asyncio.ensure_future(driver.start(spec("import time; time.sleep(600)")))
        for _ in range(turns):
            await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    assert left_behind(driver, tmp_path / "state") == before


async def test_closing_leaves_nothing_on_the_host(tmp_path: Path, spec: Spec) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    driver = SandboxDriver(config(tmp_path), None)
    await driver.open()
    folders = list(driver._abilities.tree.folders()) if driver._abilities.tree else []
    spawner = os.pidfd_open(spawner_of(driver))
    await driver.start(spec("import time; time.sleep(600)"))
    await driver.close()
    assert select.select([spawner], [], [], 0)[0]
    os.close(spawner)
    assert [str(folder) for folder in folders if folder.exists()] == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


# ---- deaths -----------------------------------------------------------------------------------------------


async def test_when_the_spawner_is_killed_everything_ends_and_the_next_start_works(
    driver: SandboxDriver, spec: Spec, tmp_path: Path
) -> None:
    sandboxes = [await driver.start(spec("import time; time.sleep(600)", id=f"e{n}")) for n in range(2)]
    runtimes = [os.pidfd_open(pid_of(sandbox)) for sandbox in sandboxes]
    os.kill(spawner_of(driver), signal.SIGKILL)
    assert [await ended(sandbox) for sandbox in sandboxes] == [Exit(signal=signal.SIGKILL)] * 2
    for runtime in runtimes:
        assert select.select([runtime], [], [], 10)[0]
        os.close(runtime)
    for sandbox in sandboxes:
        await sandbox.dispose()
    assert await output_of(driver, spec, "print('again', flush=True)") == "again"


_HOLDER = """
import asyncio, sys
from pathlib import Path
from driver_support import read_line, spec_maker
from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox.driver import SandboxDriver

async def main():
    folder = Path(sys.argv[1])
    driver = SandboxDriver(DriverConfig(folder / "state", sys.argv[2], 1_700_000, 64), None)
    await driver.open()
    code = "import os, time; os.fork(); print('up', flush=True); time.sleep(600)"
    sandbox = await driver.start(spec_maker(folder)(code))
    await read_line(sandbox)
    sandbox.freeze()
    print(*sandbox.pids(), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_server_leaves_nothing_that_runs_and_the_next_one_reaps_the_rest(
    tmp_path: Path, spec: Spec
) -> None:
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path), INSTANCE], env=environment, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    with holder.stdout:
        processes = [os.pidfd_open(int(pid)) for pid in holder.stdout.readline().split()]
    assert len(processes) == 2
    holder.kill()
    holder.wait()
    for process in processes:
        assert select.select([process], [], [], 10)[0]
        os.close(process)
    driver = SandboxDriver(config(tmp_path), None)
    await driver.open()
    try:
        assert left_behind(driver, tmp_path / "state")["groups"] == []
        assert left_behind(driver, tmp_path / "state")["loop devices"] == []
        assert await output_of(driver, spec, "print('again', flush=True)") == "again"
    finally:
        await driver.close()


async def test_two_servers_cannot_share_a_folder(driver: SandboxDriver, tmp_path: Path) -> None:
    with pytest.raises(ServiceException, match="another server uses"):
        await SandboxDriver(config(tmp_path), None).open()


async def test_each_environment_has_a_uid_of_its_own_while_it_lives(tmp_path: Path, spec: Spec) -> None:
    driver = SandboxDriver(DriverConfig(tmp_path / "state", INSTANCE, 1_700_000, 2), None)
    await driver.open()
    try:
        code = "import time; time.sleep(600)"
        one, two = [await driver.start(spec(code, id=f"e{n}")) for n in range(2)]
        if not driver._abilities.rootless:
            assert {os.stat(f"/proc/{pid_of(each)}").st_uid for each in (one, two)} == {1_700_000, 1_700_001}
        with pytest.raises(ServiceException, match="all 2 uids"):
            await driver.start(spec("pass", id="e3"))
        await one.dispose()
        assert await output_of(driver, spec, "print('room', flush=True)", id="e3") == "room"
    finally:
        await driver.close()


async def test_cgroups_that_an_earlier_run_left_are_emptied_and_removed(tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "only root can make control groups here: run it as root")
    tree = cgroups.find(INSTANCE)
    groups = tree.make("left", cgroups.Quotas(64 << 20, 10))
    sleeper = subprocess.Popen(["sleep", "600"])
    groups.join(sleeper.pid)
    groups.freeze()
    driver = SandboxDriver(config(tmp_path), None)
    await driver.open()
    await driver.close()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert [str(folder) for folder in tree.folders() if folder.exists()] == []


# ---- the network's seam -----------------------------------------------------------------------------------


class FakeNetwork:
    """Binds what it is asked to and remembers the order of things."""

    def __init__(self, specs: Sequence[SocketSpec], fails: str = "") -> None:
        self.specs, self.fails = specs, fails
        self.said: list[str] = []
        self.bound: list[socket.socket] = []

    async def open(self) -> None:
        self.said.append("open")

    def sockets(self) -> Sequence[SocketSpec]:
        return self.specs

    def etc_files(self) -> Mapping[str, str]:
        return {"resolv.conf": "nameserver 127.0.0.1\n"}

    async def attach(
        self, environment_id: str, netns_fd: int, userns_path: str | None, sockets: Sequence[socket.socket]
    ) -> Attachment:
        self.bound = list(sockets)
        if environment_id != "probe":
            self.said.append(f"attach {os.readlink(f'/proc/self/fd/{netns_fd}')[:4]}")
            if self.fails:
                await self.close_sockets()
                raise OSError(errno.ENODEV, self.fails)
        return self

    async def close_sockets(self) -> None:
        for one in self.bound:
            one.close()

    async def close(self) -> None:
        await self.close_sockets()
        self.said.append("close")

    def enforcement(self) -> Sequence[Enforcement]:
        return (Enforcement("network", True, "fake"),)


async def test_the_networks_sockets_are_bound_before_the_runtime_starts(tmp_path: Path, spec: Spec) -> None:
    tcp, udp = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
    network = FakeNetwork(
        [
            SocketSpec("relay", socket.AF_INET, tcp, "127.0.0.1", 8333),
            SocketSpec("relay", socket.AF_INET, tcp, "10.1.2.3", 80),
            SocketSpec("relay", socket.AF_INET6, tcp, "fd00::1:2", 80),
            SocketSpec("dns", socket.AF_INET6, udp, "::1", 53),
        ]
    )
    driver = SandboxDriver(config(tmp_path), network)
    await driver.open()
    code = """
        import socket
        for address in (("127.0.0.1", 8333), ("10.1.2.3", 80), ("fd00::1:2", 80)):
            socket.create_connection(address).close()
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.sendto(b"query", ("::1", 53))
        print(open("/etc/resolv.conf").read().strip(), flush=True)
        import time; time.sleep(600)
    """
    try:
        sandbox = await driver.start(spec(textwrap.dedent(code)))
        assert await read_line(sandbox) == "nameserver 127.0.0.1"
        assert [one.getsockname()[:2] for one in network.bound] == [
            (one.host, one.port) for one in network.specs
        ]
        assert network.bound[3].recv(10) == b"query"
        await sandbox.dispose()
        assert network.said[-2:] == ["attach net:", "close"]
    finally:
        await driver.close()


async def test_a_network_that_fails_refuses_the_start_and_frees_it(tmp_path: Path, spec: Spec) -> None:
    network = FakeNetwork([], fails="no veth here")
    driver = SandboxDriver(config(tmp_path), network)
    await driver.open()
    try:
        for _ in range(2):  # the first builds what stays
            before = left_behind(driver, tmp_path / "state")
            with pytest.raises(ServiceException, match="network.*no veth here"):
                await driver.start(spec("pass"))
        assert left_behind(driver, tmp_path / "state") == before
    finally:
        await driver.close()
