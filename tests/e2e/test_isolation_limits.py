"""A function that takes all it can get of processes, memory, disk and descriptors: it is stopped at its own
limit, while the server and other functions go on. Each control takes as much where the limit is higher."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from isolation_world import processes_of
from running import Functions, Server, needs, request

PROCESSES = 1024  # AWS: "Lambda quotas": execution processes/threads
DESCRIPTORS = 1024
pytestmark = pytest.mark.usefixtures("unharmed")


@contextmanager
def others_served(server: Server, functions: Functions, canary: str) -> Iterator[list[float]]:
    """While the body runs, other functions are invoked; the seconds that each took, and it fails if any fails
    or takes long."""
    stop, took, failures = threading.Event(), list[float](), list[BaseException]()
    client = Functions(server)

    def keep_asking() -> None:
        while not stop.is_set() or not took:
            began = time.monotonic()
            try:
                assert client.invoke(canary, "ping").result == "ping"
                assert request(server, "GET", "/healthz")[0] == 200
            except BaseException as failure:
                failures.append(failure)
                return
            took.append(time.monotonic() - began)
            stop.wait(0.02)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        yield took
    finally:
        stop.set()
        asking.join(60)
    assert not failures, failures
    assert max(took) < 5.0, f"the slowest took {max(took):.1f} s"


def test_forking_ends_at_the_limit(server: Server, functions: Functions, canary: str) -> None:
    code = """
        import os, signal
        def handler(event, context):
            children, refused = [], None
            for _ in range(event["wanted"]):
                try:
                    child = os.fork()
                except OSError as error:
                    refused = type(error).__name__
                    break
                if child == 0:
                    signal.pause()
                children.append(child)
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                os.waitpid(child, 0)
            return [len(children), refused]
    """
    name = functions.create(code, MemorySize=1024, Timeout=60)
    few = PROCESSES // 2
    assert functions.invoke(name, {"wanted": few}).result == [few, None]
    with others_served(server, functions, canary):
        made, refused = functions.invoke(name, {"wanted": PROCESSES + 200}).result
    assert few < made <= PROCESSES and refused == "BlockingIOError", (made, refused)
    assert functions.invoke(name, {"wanted": 3}).result == [3, None]


def test_a_fork_bomb_dies_with_its_timeout(server: Server, functions: Functions, canary: str) -> None:
    code = """
        import os
        def handler(event, context):
            if not event:
                return "fine"
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    """
    name = functions.create(code, Timeout=2)
    assert functions.invoke(name).result == "fine"
    with others_served(server, functions, canary) as took:
        answer = functions.invoke(name, {"bomb": True})
    assert answer.error == "Unhandled" and answer.result["errorType"] in (
        "Sandbox.Timedout",
        "Runtime.OutOfMemory",
    )
    assert len(took) > 1
    assert functions.invoke(name).result == "fine"
    assert len(processes_of(name)) == 1


def test_a_gigabyte_at_128_mb_is_out_of_memory(server: Server, functions: Functions, canary: str) -> None:
    code = "def handler(event, context):\n    return len(bytearray(b'x') * event) if event else 0\n"
    name, roomy = functions.create(code), functions.create(code, MemorySize=2048)
    assert functions.invoke(name).result == 0
    with others_served(server, functions, canary):
        answer = functions.invoke(name, 1 << 30)
    assert answer.error == "Unhandled" and answer.result["errorType"] == "Runtime.OutOfMemory", answer.payload
    assert functions.invoke(roomy, 1 << 30).result == 1 << 30
    assert functions.invoke(name).result == 0


@pytest.mark.parametrize("what", ["child", "memfd", "shared", "threads", "pipes"])
def test_memory_is_counted_however_it_is_taken(what: str, functions: Functions) -> None:
    """The control is the same amount where there is memory for it."""
    needs(functions.server, "memory")
    code = """
        import fcntl, mmap, os, threading
        MB = 1 << 20
        def take(what, megabytes):
            if what == "memfd":
                one = os.memfd_create("x")
                for _ in range(megabytes):
                    os.write(one, b"x" * MB)
            elif what == "shared":
                one = mmap.mmap(-1, megabytes * MB)
                for at in range(0, megabytes * MB, 4096):
                    one[at] = 1
            elif what == "pipes":
                kept = [bytearray(b"x") * ((megabytes - 60) * MB)]  # fits alone
                for _ in range(60):
                    read, write = os.pipe()
                    kept.append((read, write))
                    fcntl.fcntl(write, 1031, MB)  # F_SETPIPE_SZ; a user's pipes hold 64 MB
                    os.write(write, b"x" * MB)
            elif what == "threads":
                kept = []
                threads = [threading.Thread(target=lambda: kept.append(b"x" * MB)) for _ in range(megabytes)]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join()
            else:
                kept = bytearray(b"x") * (megabytes * MB // 2)  # fits alone
                child = os.fork()
                if child == 0:
                    more = bytearray(b"x") * (megabytes * MB // 2)
                    os._exit(0 if len(kept) == len(more) else 1)
                if os.waitpid(child, 0)[1]:
                    raise MemoryError("the child was killed")
            return "taken"
        def handler(event, context):
            return take(*event)
    """
    wanted = 160 if what in ("child", "pipes") else 200
    taken = functions.invoke(functions.create(code, MemorySize=1024), [what, wanted])
    assert (taken.error, taken.result) == (None, "taken"), taken.log
    answer = functions.invoke(functions.create(code), [what, wanted])
    # The kernel kills the larger process: the child. Its parent lives, and may say what it likes.
    error = "MemoryError" if what == "child" else "Runtime.OutOfMemory"
    assert answer.error == "Unhandled" and answer.result["errorType"] == error, answer.payload


@pytest.mark.parametrize("how", ["bytes", "inodes", "sparse"])
def test_filling_tmp_ends_with_enospc_and_no_oom(
    how: str, server: Server, functions: Functions, canary: str
) -> None:
    code = """
        import errno, os
        MB = 1 << 20
        def handler(event, context):
            how, wanted = event
            done, block = 0, b"x" * MB
            try:
                if how == "inodes":
                    os.makedirs("/tmp/many", exist_ok=True)
                    for done in range(wanted):
                        os.close(os.open(f"/tmp/many/{done}", os.O_CREAT | os.O_WRONLY))
                elif how == "sparse":
                    with open("/tmp/sparse", "wb") as file:
                        os.posix_fallocate(file.fileno(), 0, wanted * MB)
                        done = wanted
                else:
                    with open("/tmp/big", "wb", 0) as file:
                        for done in range(wanted):
                            file.write(block)
            except OSError as error:
                return [done, errno.errorcode[error.errno]]
            return [done, None]
    """
    wanted = 200_000 if how == "inodes" else 700
    name = functions.create(code, Timeout=60)
    with others_served(server, functions, canary):
        done, error = functions.invoke(name, [how, wanted]).result
    assert error == "ENOSPC" and done < (wanted if how == "inodes" else 513), (done, error)
    if how == "bytes":
        assert done > 400, "the control: AWS gives 512 MB"
    elif how == "inodes":
        assert done > 5_000, "an ordinary program has room"
        assert functions.invoke(functions.create(code), [how, 100]).result == [99, None]
    else:
        # the control: as much where there is room for it
        roomy = functions.create(code, EphemeralStorage={"Size": 1024})
        assert functions.invoke(roomy, [how, wanted]).result == [wanted, None]


def test_descriptors_end_at_the_limit(functions: Functions) -> None:
    code = """
        import os
        def handler(event, context):
            kept, error = [], None
            try:
                for _ in range(event):
                    kept.append(os.open("/dev/null", os.O_RDONLY))
            except OSError as failure:
                error = failure.strerror
            for one in kept:
                os.close(one)
            return [len(kept), error]
    """
    name = functions.create(code)
    assert functions.invoke(name, 500).result == [500, None]
    made, error = functions.invoke(name, 2000).result
    assert 500 < made < DESCRIPTORS and error == "Too many open files", (made, error)


def test_spinning_has_its_share_of_a_core(server: Server, functions: Functions, canary: str) -> None:
    """128 MB is 7 % of a core, by 8 threads of execution too; the control has 1,769 MB, a whole one."""
    needs(server, "cpu")
    code = """
        import os, time
        def handler(event, context):
            children = []
            for _ in range(8):
                child = os.fork()
                if child == 0:
                    until = time.monotonic() + 1.5
                    while time.monotonic() < until:
                        pass
                    os._exit(0)
                children.append(child)
            return sum(sum(os.wait4(child, 0)[2][:2]) for child in children)
    """
    small, whole = functions.create(code), functions.create(code, MemorySize=1769)
    with others_served(server, functions, canary):
        used = functions.invoke(small).result
    assert used < 0.6, f"{used:.2f} s of processor in 1.5 s at 128 MB"
    assert functions.invoke(whole).result > used
