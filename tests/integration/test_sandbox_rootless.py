"""The sandbox driver as an ordinary user. Where the tests run as root that is another user, with the system's
Python and a copy of the sources that it may read."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import require

NOBODY = 65534
ROOT = Path(__file__).parents[2]
_PYTHONS = ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11")

_SCRIPT = """
import asyncio, json, os, sys
from pathlib import Path
from driver_support import ended, fork_maker, read_line, spec_maker, until_parked
from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox.driver import SandboxDriver

FACTS = '''
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(os.getuid(), os.getgid(), status["CapEff"].strip(), status["Seccomp"].strip(), flush=True)
'''
HOG = "import time; data = bytearray(300 << 20); print('lived', flush=True); time.sleep(600)"

async def main():
    folder = Path(sys.argv[1])
    config = DriverConfig(folder / "state", "rootless", 1_800_000, 16, parked_slots=2)
    driver = SandboxDriver(config, None)
    await driver.open()
    spec = spec_maker(folder)
    one = await driver.start(spec(FACTS))
    facts = await read_line(one)
    await one.dispose()
    two = await driver.start(spec(HOG, memory_mb=128))
    end = await ended(two)
    await two.dispose()
    spec = fork_maker(folder)
    await until_parked(driver, spec)
    three = await driver.start(spec(FACTS))
    forked = [three.start, await read_line(three)]
    await three.dispose()
    said = {one.name: one.enforced for one in driver.enforcement()}
    await driver.close()
    print(json.dumps({"facts": facts, "oom": end.oom, "signal": end.signal, "said": said,
                      "forked": forked}))

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Readable to everybody, which pytest's own folders are not."""
    made = Path(tempfile.mkdtemp(prefix="lambent-rootless-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_an_ordinary_user_gets_isolation_and_a_memory_limit_and_is_told_the_rest(folder: Path) -> None:
    root = os.geteuid() == 0
    usable = _PYTHONS if root else (sys.executable,)
    python = next((path for path in usable if os.access(path, os.X_OK)), None)
    require("system python >= 3.11", python, "apt-get install python3")
    for source in ("executor/lambent", "kernel/lambent"):
        shutil.copytree(ROOT / source, folder / "lib/lambent", dirs_exist_ok=True)
    shutil.copy(ROOT / "tests/driver_support.py", folder / "lib")
    own = folder / "own"
    own.mkdir()
    if root:
        os.chown(own, NOBODY, NOBODY)
    done = subprocess.run(
        [str(python), "-B", "-c", _SCRIPT, str(own)],
        env={"PYTHONPATH": str(folder / "lib"), "HOME": str(own)},
        user=NOBODY if root else None,
        group=NOBODY if root else None,
        extra_groups=[] if root else None,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["facts"] == f"993 990 {'0' * 16} 2"
    assert said["forked"] == ["parked", said["facts"]]
    assert (said["oom"], said["signal"]) == (True, 9)
    held = said["said"]
    assert (held["namespaces"], held["capabilities"], held["system calls"]) == (True, True, True)
    assert not held["uid separation"]


def test_the_sources_that_the_spawner_runs_need_no_package() -> None:
    """It starts with -I -S: an import beyond the standard library would end it on a real installation."""
    code = (
        "import sys; sys.path.append(sys.argv[1]); import lambent.executor.drivers.sandbox.spawner; "
        "print(*sorted(name for name in sys.modules if name.startswith('lambent.')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", code, str(ROOT / "executor")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not [name for name in done.stdout.split() if not name.startswith("lambent.executor")]
