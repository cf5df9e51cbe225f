"""Which starts a zygote may take, and which zygote. A variable that an interpreter reads before it runs
anything cannot act in a forked one any more, so a function that sets such a one gets a process of its own.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambent.executor.drivers.base import EnvironmentSpec

# Read by the dynamic linker, libc and OpenSSL when a process starts, and by the interpreter.
_PREFIXES = ("LD_", "GLIBC_", "MALLOC_", "LC_", "OPENSSL_", "PYTHON")
_NAMES = frozenset({"AWS_LAMBDA_EXEC_WRAPPER", "GCONV_PATH", "LANG", "LOCPATH"})

# In the runtime folder, and slow to import: what a function that uses an AWS client waits for most. A megabyte
# of each environment's memory, and so only for those that seem to use it.
_BOTO3 = (
    "boto3",
    "boto3.session",
    "botocore.session",
    "botocore.client",
    "botocore.endpoint",
    "botocore.httpsession",
    "botocore.regions",
    "botocore.retries.standard",
    "botocore.signers",
    "encodings.idna",
    "http.client",
)
_LOOKED_AT = 1 << 18  # bytes of a source


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


@functools.lru_cache(maxsize=4096)
def preload(task_dir: Path, handler: str) -> Sequence[str]:
    """The modules that a function with this code should find loaded: boto3's if its handler's module names
    it. What a function imports besides is imported as ever. (A code folder's content never changes.)"""
    module = handler.rpartition(".")[0].replace(".", "/")
    try:
        with open(task_dir / f"{module}.py", "rb") as source:
            return _BOTO3 if b"boto3" in source.read(_LOOKED_AT) else ()
    except OSError:  # a package, say, or a module that is not there, which its init will tell
        return ()
