"""Node.js processes that were started before their function was known: each is what a plain start is, and
whatever dies leaves nothing."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from driver_support import ended, read_line
from forking import World, forking
from installed_runtimes import fetched
from support import TESTS, require

from lambent.executor.drivers.base import Exit
from lambent.executor.runtimes.family import RuntimeCommand
from lambent.executor.runtimes.registry import Runtimes

RUNTIMES = ("nodejs22.x", "nodejs24.x")  # whose clients start differently
MEMORY_MB = 512
HANDLER = {"app.mjs": "export const handler = async () => 1;"}


@pytest.fixture(scope="module", params=RUNTIMES)
def command(request: pytest.FixtureRequest) -> RuntimeCommand:
    cache = request.config.cache
    assert cache is not None
    runtimes = Runtimes(fetched(cache.mkdir("runtimes"), *RUNTIMES))
    runtimes.scan()
    return runtimes.command(request.param, "app.handler", MEMORY_MB)


@pytest.fixture
async def world(command: RuntimeCommand, tmp_path: Path) -> AsyncIterator[World]:
    async with forking(command, tmp_path) as made:
        await made.parked(code=HANDLER)
        yield made


SAY = "const say = (what) => process.getBuiltinModule('fs').writeSync(1, JSON.stringify(what) + '\\n');\n"
LOOK = (TESTS / "functions/process_seen.js").read_text()


async def look(command: RuntimeCommand, folder: Path, *, slots: int, **changes: Any) -> dict[str, Any]:
    async with forking(command, folder, slots=slots) as world:
        code = {"app.js": SAY + LOOK}
        if slots:
            await world.parked(code=code, **changes)
        seen: dict[str, Any] = await world.says(code, start="parked" if slots else "plain", **changes)
        return seen


@pytest.mark.parametrize(
    "env",
    [
        {"GREETING": "hello = there", "NODE_ENV": "production", "EMPTY": ""},
        {"TZ": "America/New_York", "PATH": "/opt/bin:/usr/bin"},
        {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"},
        {"NODE_OPTIONS": "--enable-source-maps --stack-trace-limit=3"},
    ],
    ids=lambda env: "-".join(env),
)
async def test_a_process_that_waited_is_like_one_that_was_started(
    command: RuntimeCommand, tmp_path: Path, env: Mapping[str, str]
) -> None:
    package = tmp_path / "layer/nodejs/node_modules/only-in-a-layer"
    package.mkdir(parents=True)
    (package / "index.js").write_text("module.exports = 'from the layer';")
    layer = {"opt_dir": tmp_path / "layer"} if "GREETING" in env else {}
    plain = await look(command, tmp_path, slots=0, env=env, **layer)
    waited = await look(command, tmp_path, slots=2, env=env, **layer)
    assert plain["found"] == ("from the layer" if layer else "MODULE_NOT_FOUND")
    differing = {name: (value, plain[name]) for name, value in waited.items() if value != plain[name]}
    assert differing == {}, "".join(f"\n{name}\n{one}\n{two}" for name, (one, two) in differing.items())


async def test_a_variable_that_acts_at_the_start_of_a_process_acts(world: World) -> None:
    code = {"app.js": SAY + "say(process.noDeprecation ?? false);"}
    for name, value in (
        ("NODE_OPTIONS", "--no-deprecation --require /var/task/first.js"),
        ("UV_THREADPOOL_SIZE", "1"),
    ):
        sandbox = await world.start({**code, "first.js": ""}, env={name: value})
        assert sandbox.start == "plain"
        assert await read_line(sandbox) == ("true" if name == "NODE_OPTIONS" else "false")
        await sandbox.dispose()


async def test_the_heap_is_as_large_as_the_functions_memory_allows(world: World) -> None:
    code = {"app.js": SAY + "say([require('v8').getHeapStatistics().heap_size_limit])"}
    assert MEMORY_MB * 0.9 <= (await world.says(code))[0] / 2**20 <= MEMORY_MB * 1.5


async def test_two_of_them_have_random_numbers_of_their_own(world: World) -> None:
    code = {
        "app.js": SAY + "say([Math.random(), require('crypto').randomUUID(),"
        " require('crypto').randomBytes(8).toString('hex')])"
    }
    await world.parked(2, code=HANDLER)
    first, second = await world.says(code), await world.says(code)
    assert not set(first) & set(second)


async def test_es_modules_of_a_layer_are_found(world: World, tmp_path: Path) -> None:
    package = tmp_path / "layer/nodejs/node_modules/only-in-a-layer"
    package.mkdir(parents=True)
    (package / "index.js").write_text("module.exports = 'from the layer';")
    code = {"app.mjs": "import found from 'only-in-a-layer';" + SAY + "say(found);"}
    assert await world.says(code, opt_dir=tmp_path / "layer") == "from the layer"


async def test_a_slot_that_dies_is_freed_and_another_one_made(world: World) -> None:
    [slot, *_] = world.slots()
    os.kill(slot.pid(), signal.SIGKILL)
    assert await ended(slot) == Exit(signal=signal.SIGKILL)
    async with asyncio.timeout(20):
        while slot in world.slots() or not world.driver.parked:
            await asyncio.sleep(0.01)
    assert await world.says({"app.js": SAY + "say([1])"}) == [1]


async def test_code_that_is_gone_is_told_and_the_slot_freed(world: World, tmp_path: Path) -> None:
    before = len(world.driver._sandboxes)
    spec = world.spec(HANDLER)
    assert spec.task_dir is not None
    (spec.task_dir / "app.mjs").unlink()
    spec.task_dir.rmdir()
    with pytest.raises(Exception, match="No such file"):
        await world.driver.start(spec)
    async with asyncio.timeout(20):
        while len(world.driver._sandboxes) > before:
            await asyncio.sleep(0.01)
    await world.parked(code=HANDLER)
    assert await world.says({"app.js": SAY + "say([1])"}) == [1]


async def test_what_waits_holds_no_variable_of_a_function_and_reaches_nothing(world: World) -> None:
    """Its socket leads to the driver alone, and is closed before any code of the function's runs."""
    [slot, *_] = world.slots()
    environ = Path(f"/proc/{slot.pid()}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environ if entry}
    assert names == {*(world.command.ahead_env or {}), "_LAMBENT_FUNCTION"}
    code = SAY + "say(require('fs').readdirSync('/proc/self/fd').map((fd) => {"
    code += " try { return require('fs').readlinkSync('/proc/self/fd/' + fd); } catch { return ''; } }))"
    targets = await world.says({"app.js": code})
    assert [target for target in targets if target.startswith("socket:")] == [], json.dumps(targets)


async def test_closing_leaves_nothing(command: RuntimeCommand, tmp_path: Path) -> None:
    async with forking(command, tmp_path) as world:
        await world.parked(2, code=HANDLER)
        pids = [slot.pid() for slot in world.slots()]
        assert len(pids) >= 2
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


# ---- Ruby -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ruby(tmp_path_factory: pytest.TempPathFactory) -> RuntimeCommand:
    require("ruby", shutil.which("ruby"), "functions in Ruby run on this machine's: apt-get install ruby")
    runtimes = Runtimes(tmp_path_factory.mktemp("data"), match="compatible")
    runtimes.scan()
    return runtimes.command("ruby3.3", "app.handler", MEMORY_MB)


@pytest.mark.parametrize(
    "env", [{"GREETING": "hello"}, {"TZ": "America/New_York", "PATH": "/opt/bin:/usr/bin"}], ids=("layer", "TZ")
)
async def test_a_ruby_that_waited_is_like_one_that_was_started(
    ruby: RuntimeCommand, tmp_path: Path, env: Mapping[str, str]
) -> None:
    library = tmp_path / "layer/ruby/lib"
    library.mkdir(parents=True)
    (library / "only_in_a_layer.rb").write_text("IN_A_LAYER = 'from the layer'")
    layer: dict[str, Any] = {"opt_dir": tmp_path / "layer"} if "GREETING" in env else {}
    code = {"app.rb": (TESTS / "functions/process_seen.rb").read_text()}
    seen = []
    for slots in (0, 2):
        async with forking(ruby, tmp_path, slots=slots) as world:
            if slots:
                await world.parked(code=code, env=env, **layer)
            seen.append(await world.says(code, start="parked" if slots else "plain", env=env, **layer))
    plain, waited = seen
    assert plain["found"] == ("from the layer" if layer else "LoadError")
    differing = {name: (value, plain[name]) for name, value in waited.items() if value != plain[name]}
    assert differing == {}, "".join(f"\n{name}\n{one}\n{two}" for name, (one, two) in differing.items())


async def test_a_variable_that_acts_when_ruby_starts_acts(ruby: RuntimeCommand, tmp_path: Path) -> None:
    async with forking(ruby, tmp_path) as world:
        code = {"app.rb": 'STDOUT.write("[#{$VERBOSE}]\\n")\ndef handler(event:, context:) = 1'}
        await world.parked(code=code)
        assert await world.says(code) == [False]
        assert await world.says(code, start="plain", env={"RUBYOPT": "-w"}) == [True]
