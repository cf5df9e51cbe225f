"""Which starts a zygote may take: pure. A variable that an interpreter reads before it runs anything cannot
act in a forked one any more, so a function that sets such a one gets a process of its own.
"""

from collections.abc import Mapping

from lambent.executor.drivers.base import EnvironmentSpec

# Read by the dynamic linker, libc and OpenSSL when a process starts, and by the interpreter.
_PREFIXES = ("LD_", "GLIBC_", "MALLOC_", "LC_", "OPENSSL_", "PYTHON")
_NAMES = frozenset({"AWS_LAMBDA_EXEC_WRAPPER", "GCONV_PATH", "LANG", "LOCPATH"})


def obstacle(spec: EnvironmentSpec) -> str | None:
    """The variable that stands in the way; None if the start may be a fork. The start's `fork_env` is set."""
    own, env = spec.fork_env or {}, spec.env
    for name in sorted(env):
        if name == "PYTHONPATH":
            if not all(folder.startswith("/") for folder in env[name].split(":")):
                return name
        elif (name in _NAMES or name.startswith(_PREFIXES)) and env[name] != own.get(name):
            return name
    return None


def key(spec: EnvironmentSpec) -> tuple[object, ...]:
    """What starts that one zygote can serve have in common."""
    own: Mapping[str, str] = spec.fork_env or {}
    return (*spec.argv, *spec.prefixes, spec.runtime_dir, *sorted(own.items()))
