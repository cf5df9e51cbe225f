"""`--part cold_start`: from nothing to a runtime's first `next`, by kind of start, and what an idle environment
costs.

`plain` is `python -m awslambdaric` without any isolation, the baseline of every ratio; `sandbox` a process of
its own in an environment; `parked` an environment that was made ahead of need; `restored` one that was restored
from a snapshot of an initialised one (SnapStart). The kinds take turns, so that noise meets all of them. Then
the private memory of idle environments, and a burst that is larger than what is parked, after which nothing may
be left. Where the disk has no room for so many /tmp of 512 MB, those are smaller, and then all of the burst are
forks.
"""

import asyncio
import os
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.baselines import HANDLER
from rich.console import Console
from rich.table import Table

from lambent.executor.drivers.base import DriverConfig, EnvironmentSpec, Sandbox, Snapshot
from lambent.executor.drivers.sandbox import ptrace
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.drivers.sandbox.network import SandboxNetwork
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.runtimes import entrypoint, packages
from lambent.executor.runtimes.python import RuntimeCommand
from lambent.executor.runtimes.registry import Runtimes

PARKED = 16
EPHEMERAL_MB = 512
RESTORED = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
HANDLERS = {"": HANDLER, " with boto3": f"import boto3\n{HANDLER}"}
PlainStart = Callable[[Path, str], float]


@dataclass
class Results:
    """`times`: milliseconds by kind of start; `idle`: (private, proportional) KiB by number of environments;
    `burst`: kinds of its starts, seconds, and what was left; `others`: milliseconds by runtime and kind of
    start."""

    times: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[int, tuple[float, float]] = field(default_factory=dict)
    burst: tuple[Counter[str], float, list[str]] | None = None
    others: dict[tuple[str, str], list[float]] = field(default_factory=dict)


class Bench:
    """One driver, and environments of one function."""

    def __init__(self, folder: Path, command: RuntimeCommand, slots: int) -> None:
        self.instance = f"bench{slots}-{os.getpid()}"
        self.state = folder / f"state{slots}"
        self._folder = folder
        self._command = command
        config = DriverConfig(
            self.state, self.instance, 1_900_000 + 10_000 * bool(slots), 4096, parked_slots=slots
        )
        self.driver = SandboxDriver(config, SandboxNetwork(config))
        self._count = 0
        self.ephemeral_mb = EPHEMERAL_MB

    def make_room(self, count: int) -> None:
        """For so many environments at once."""
        free = os.statvfs(self._folder).f_bavail * os.statvfs(self._folder).f_frsize >> 20
        self.ephemeral_mb = EPHEMERAL_MB if count * EPHEMERAL_MB < free // 2 else free // 4 // count

    def spec(self, code: str) -> EnvironmentSpec:
        self._count += 1
        task = self._folder / f"task-{len(code)}"
        if not task.exists():
            task.mkdir()
            (task / "app.py").write_text(code)
        variables = {
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
            "AWS_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
        }
        command = self._command
        return EnvironmentSpec(
            id=f"e{self._count}",
            argv=command.argv,
            env={**command.env, **variables},
            task_dir=task,
            runtime_dir=command.runtime_dir,
            opt_dir=None,
            prefixes=command.prefixes,
            memory_mb=1769,
            ephemeral_mb=self.ephemeral_mb,
            fork_env=command.fork_env,
        )

    async def start(self, code: str) -> tuple[RunningSandbox, float]:
        """An environment whose runtime waits for its first event, and the milliseconds that took."""
        began = time.perf_counter()
        sandbox = await self.driver.start(self.spec(code))
        await until_next(sandbox)
        took = (time.perf_counter() - began) * 1000
        assert isinstance(sandbox, RunningSandbox)
        return sandbox, took

    async def snapshot(self, code: str) -> Snapshot:
        """Of an environment of that function after its init."""
        spec = self._of_snap_start(code)
        sandbox = await self.driver.start(replace(spec, template=True))
        connection = await connected(sandbox)
        await asyncio.get_running_loop().sock_recv(connection, 4096)
        try:
            return await self.driver.snapshot(sandbox)
        finally:
            await sandbox.dispose()

    async def restore(self, code: str, snapshot: Snapshot) -> tuple[Sandbox, float]:
        """As `start`, from the snapshot."""
        began = time.perf_counter()
        sandbox = await self.driver.start(replace(self._of_snap_start(code), snapshot=snapshot))
        connection = await connected(sandbox)
        await asyncio.get_running_loop().sock_sendall(connection, RESTORED)
        await until_next(sandbox)
        return sandbox, (time.perf_counter() - began) * 1000

    def _of_snap_start(self, code: str) -> EnvironmentSpec:
        spec = self.spec(code)
        return replace(spec, env={**spec.env, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})

    async def until_parked(self, count: int) -> None:
        async with asyncio.timeout(120):
            while self.driver.parked < count:
                await asyncio.sleep(0.02)


async def connected(sandbox: Sandbox) -> socket.socket:
    """The runtime's next connection; it is closed when the environment ends."""
    connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(sandbox.listener), 60)
    connection.setblocking(False)
    sandbox.exited.add_done_callback(lambda _: connection.close())
    return connection


async def until_next(sandbox: Sandbox) -> None:
    asked = await asyncio.get_running_loop().sock_recv(await connected(sandbox), 4096)
    if b"/invocation/next" not in asked:
        raise RuntimeError(f"not its first event is what the runtime asks for: {asked!r}")


async def measure(plain_start: PlainStart, *, starts: int, idle: int, burst: int, data: Path | None) -> Results:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = Results()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        runtimes = Runtimes(folder)
        await runtimes.open()
        command = runtimes.command(f"python3.{packages.own_minor()}", "app.handler")
        plain, forking = Bench(folder, command, 0), Bench(folder, command, PARKED)
        await plain.driver.open()
        try:
            await forking.driver.open()
            try:
                for what, code in HANDLERS.items():
                    await times(
                        results, what, code, plain, forking, lambda c=code: plain_start(folder, c), starts
                    )
                for count in sorted({1, 100, idle}):
                    results.idle[count] = await memory(forking, count)
                results.burst = await at_once(forking, burst)
                if data is not None:
                    results.others = await of_runtimes(plain, forking, data, folder, starts)
            finally:
                await forking.driver.close()
        finally:
            await plain.driver.close()
    return results


async def times(
    results: Results,
    what: str,
    code: str,
    plain: Bench,
    forking: Bench,
    plain_start: Callable[[], float],
    starts: int,
) -> None:
    taken: Mapping[str, list[float]] = {kind: results.times.setdefault(kind + what, []) for kind in KINDS}
    for bench in (plain, forking):  # nobody's first start counts
        await (await bench.start(code))[0].dispose()
    snapshot = await forking.snapshot(code) if ptrace.available() else None
    for _ in range(starts):
        taken["plain"].append(plain_start())
        sandbox, took = await plain.start(code)
        taken["sandbox"].append(took)
        await sandbox.dispose()
        # One for each line of starts is there, and nothing is being made.
        await forking.until_parked(2)
        await asyncio.sleep(0.1)
        sandbox, took = await forking.start(code)
        assert sandbox.start == "parked", sandbox.start
        taken["parked"].append(took)
        await sandbox.dispose()
        if snapshot is not None:
            await forking.until_parked(2)
            await asyncio.sleep(0.1)
            restored, took = await forking.restore(code, snapshot)
            assert restored.start == "restored", restored.start
            taken["restored"].append(took)
            await restored.dispose()
    if snapshot is not None:
        forking.driver.drop(snapshot)


KINDS = ("plain", "sandbox", "parked", *(("restored",) if ptrace.available() else ()))


async def of_runtimes(
    plain: Bench, ahead: Bench, data: Path, folder: Path, starts: int
) -> dict[tuple[str, str], list[float]]:
    """Starts of a function that returns its event, for each runtime but Python that the data folder has."""
    runtimes, taken = Runtimes(data, look_only=True), dict[tuple[str, str], list[float]]()
    for info in runtimes.listing():
        task = folder / f"task-{info.runtime}"
        handler = _trivial(info.runtime, task) if info.available else None
        if handler is None:
            continue
        command = runtimes.command(info.runtime, handler, 1769)
        command = entrypoint.resolve(command, task, None)
        for number in range(starts + 1):
            for bench in (plain, ahead) if command.ahead_env is not None else (plain,):
                if number and bench is ahead:
                    await asyncio.sleep(0.5)  # one is there, and nothing is being made
                spec = replace(
                    bench.spec(HANDLER),
                    argv=command.argv,
                    env={**bench.spec(HANDLER).env, **command.env},
                    task_dir=task,
                    runtime_dir=command.runtime_dir,
                    prefixes=command.prefixes,
                    fork_env=command.fork_env,
                    ahead_env=command.ahead_env,
                    root=command.root,
                    ephemeral_mb=EPHEMERAL_MB,
                )
                began = time.perf_counter()
                sandbox = await bench.driver.start(spec)
                await until_next(sandbox)
                took = (time.perf_counter() - began) * 1000
                await sandbox.dispose()
                if number:  # nobody's first start counts
                    taken.setdefault((info.runtime, sandbox.start), []).append(took)
    return taken


def _trivial(runtime: str, task: Path) -> str | None:
    """Writes its code; the handler. None: a runtime that is not measured, or has no compiler here."""
    task.mkdir(exist_ok=True)
    if runtime.startswith("nodejs"):
        (task / "index.mjs").write_text("export const handler = async (event) => event;")
        return "index.handler"
    if runtime.startswith("provided"):
        (task / "bootstrap").write_text(
            '#!/bin/sh\nexec curl -s "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"\n'
        )
        (task / "bootstrap").chmod(0o755)
        return "x"
    if runtime.startswith("java") and shutil.which("javac"):
        (task / "App.java").write_text(
            "public class App { public String handle(String event) { return event; } }"
        )
        compiled = subprocess.run(["javac", "--release", "17", "App.java"], cwd=task, check=False)
        return "App::handle" if compiled.returncode == 0 else None
    return None


async def memory(bench: Bench, count: int) -> tuple[float, float]:
    """Means of (private, proportional) KiB of so many idle environments at once."""
    code = HANDLERS[""]
    bench.make_room(count)
    gate = asyncio.Semaphore(8)

    async def one() -> RunningSandbox:
        async with gate:
            return (await bench.start(code))[0]

    sandboxes = await asyncio.gather(*(one() for _ in range(count)))
    private, proportional = zip(*(of_process(sandbox.pid()) for sandbox in sandboxes), strict=True)
    await disposed(sandboxes)
    return statistics.fmean(private), statistics.fmean(proportional)


def of_process(pid: int) -> tuple[int, int]:
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0])
    return fields["Private_Clean"] + fields["Private_Dirty"], fields["Pss"]


async def at_once(bench: Bench, count: int) -> tuple[Counter[str], float, list[str]]:
    bench.make_room(count)
    await bench.until_parked(2)
    before = residue(bench)
    began = time.perf_counter()
    started = await asyncio.gather(*(bench.start(HANDLERS[""]) for _ in range(count)))
    seconds = time.perf_counter() - began
    kinds = Counter(sandbox.start for sandbox, _ in started)
    await disposed([sandbox for sandbox, _ in started])
    until = time.monotonic() + 30
    while left := sorted((residue(bench) - before).elements()):
        # Slots are made again meanwhile, as many as fit the burst: those are no residue.
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.2)
    return kinds, seconds, left


async def disposed(sandboxes: "list[RunningSandbox]") -> None:
    ends: list[Awaitable[None]] = [sandbox.dispose() for sandbox in sandboxes]
    await asyncio.gather(*ends)


def residue(bench: Bench) -> Counter[str]:
    """What environments take of the machine, without what parked slots do."""
    parked = bench.driver.parked
    groups = [Path(path) for path, _, _ in os.walk("/sys/fs/cgroup/") if path.endswith(f"-{bench.instance}")]
    held = max((sum(child.is_dir() for child in group.iterdir()) for group in groups), default=parked)
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    images = [text for text in backing if str(bench.state) in text]
    return Counter({"loop device": len(images) - parked, "control group": held - parked})


def show(console: Console, results: Results) -> None:
    table = Table("start", "median ms", "p99 ms", "/ plain")
    for what in HANDLERS:
        plain = statistics.median(results.times["plain" + what])
        for kind in KINDS:
            values = sorted(results.times[kind + what])
            middle = statistics.median(values)
            p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
            table.add_row(
                kind + what, f"{middle:.2f}", f"{p99:.2f}", f"{middle / plain:.3f} (1/{plain / middle:.1f})"
            )
    console.print("Cold starts to the first `next` (budget: parked <= 1/12 of plain)")
    console.print(table)
    table = Table("idle environments", "private KiB each", "PSS KiB each")
    for count, (private, proportional) in results.idle.items():
        table.add_row(str(count), f"{private:.0f}", f"{proportional:.0f}")
    console.print("Memory (budget: 3,584 KiB private)")
    console.print(table)
    table = Table("runtime", "start", "of them", "median ms", "p99 ms")
    for (runtime, kind), values in results.others.items():
        ordered = sorted(values)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        table.add_row(runtime, kind, str(len(values)), f"{statistics.median(values):.2f}", f"{p99:.2f}")
    if results.others:
        console.print("Other runtimes, in environments, to the first `next`")
        console.print(table)
    if results.burst is not None:
        kinds, seconds, left = results.burst
        count = kinds.total()
        console.print(
            f"{count} at once: {seconds:.1f} s, {count / seconds:.0f} a second, {dict(kinds)}; left: {left}"
        )


def run(
    console: Console, plain_start: PlainStart, *, starts: int, idle: int, burst: int, data: Path | None
) -> None:
    """`data`: the data folder whose other runtimes are measured, too."""
    show(console, asyncio.run(measure(plain_start, starts=starts, idle=idle, burst=burst, data=data)))
