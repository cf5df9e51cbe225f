"""The filter's decisions, by running its program as the kernel would."""

import errno
import struct

import pytest

from lambent.executor.drivers.sandbox import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = seccomp.ALLOW, seccomp.KILL
DENY = 0x00050000 | errno.EPERM
NO_SUCH_CALL = 0x00050000 | errno.ENOSYS
NEWUSER, NEWNS, SIGCHLD = 0x10000000, 0x00020000, 17


def decide(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the filter for `machine` returns for a call."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("=iIQ6Q", number, arch if arch is not None else ARCH[machine], 0, *padded)
    program = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at, word = 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        match code:
            case 0x20:
                word = struct.unpack_from("=I", data, value)[0]
            case 0x54:
                word &= value
            case 0x15:
                at += yes if word == value else no
            case 0x35:
                at += yes if word >= value else no
            case 0x45:
                at += yes if word & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=[("x86_64", 0), ("aarch64", 1)], ids=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> tuple[str, int]:
    made: tuple[str, int] = request.param
    return made


def test_every_listed_call_is_denied_and_ordinary_ones_pass(machine: tuple[str, int]) -> None:
    name, column = machine
    denied = {numbers[column] for numbers in seccomp.DENIED.values()} - {None}
    special = {seccomp.CLONE3[column], seccomp.SOCKET[column]}
    for number in range(470):
        expected = DENY if number in denied else ALLOW
        if number not in special:
            assert decide(name, number) == expected, number
    assert len(denied) > 45


def test_clone_makes_threads_and_processes_but_no_namespace(machine: tuple[str, int]) -> None:
    name, column = machine
    clone = seccomp.CLONE[column]
    assert decide(name, clone, SIGCHLD) == ALLOW
    assert decide(name, clone, 0x3D0F00) == ALLOW  # a thread, as libc asks for it
    assert decide(name, clone, NEWUSER | SIGCHLD) == DENY
    assert decide(name, clone, NEWNS) == DENY
    assert decide(name, seccomp.CLONE3[column]) == NO_SUCH_CALL


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "allowed"),
    [
        (1, 1, 0, True),  # unix
        (2, 1, 0, True),  # internet, stream
        (2, 2 | 0o2000000, 0, True),  # with SOCK_CLOEXEC
        (10, 2, 0, True),
        (2, 3, 1, False),  # raw
        (2, 3 | 0o4000, 1, False),  # raw with SOCK_NONBLOCK
        (10, 3, 58, False),
        (2, 10, 0, False),  # SOCK_PACKET
        (17, 3, 0, False),  # AF_PACKET
        (16, 3, 0, True),  # netlink, routing: how libc lists interfaces
        (16, 3, 9, False),  # netlink, audit
        (38, 5, 0, False),  # AF_ALG
        (40, 1, 0, False),  # AF_VSOCK
        (31, 3, 1, False),  # AF_BLUETOOTH
    ],
)
def test_sockets(machine: tuple[str, int], family: int, kind: int, protocol: int, allowed: bool) -> None:
    name, column = machine
    assert decide(name, seccomp.SOCKET[column], family, kind, protocol) == (ALLOW if allowed else DENY)


def test_typing_into_a_terminal_is_denied_and_other_controls_pass(machine: tuple[str, int]) -> None:
    name, column = machine
    ioctl = seccomp.IOCTL[column]
    assert decide(name, ioctl, 0, 0x5412) == DENY
    assert decide(name, ioctl, 0, 0x5412 | 1 << 40) == DENY  # the kernel reads the low word only
    assert decide(name, ioctl, 0, 0x541C) == DENY
    assert decide(name, ioctl, 0, 0x5413) == ALLOW


def test_the_personality_can_be_read_and_not_changed(machine: tuple[str, int]) -> None:
    name, column = machine
    personality = seccomp.PERSONALITY[column]
    assert decide(name, personality, 0xFFFFFFFF) == ALLOW
    assert decide(name, personality, 0) == ALLOW
    assert decide(name, personality, 0x0040000) == DENY


def test_another_architectures_calls_kill(machine: tuple[str, int]) -> None:
    assert decide(machine[0], 0, arch=0x40000003) == KILL


def test_x32_calls_do_not_exist() -> None:
    assert decide("x86_64", 0x40000000 | 165) == NO_SUCH_CALL


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no system call filter for riscv64"):
        seccomp.program("riscv64")
