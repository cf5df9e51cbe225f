"""Which starts a slot may take, and of which kind. A variable that an interpreter reads before it runs anything
cannot act any more in one that runs already, so a function that sets such a one gets a process of its own.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lambent.executor.drivers.base import EnvironmentSpec

# Read by the dynamic linker, libc and OpenSSL when a process starts, and by the interpreter; of Node.js
# also what its event loop and AWS's client read when they are loaded, of Ruby what its gems do.
_PREFIXES = ("LD_", "GLIBC_", "MALLOC_", "LC_", "OPENSSL_")
_OF_PYTHON = ("PYTHON",)
_OF_WAITING = (
    *("NODE_", "UV_", "SSL_CERT_", "ICU_", "_LAMBDA_TELEMETRY_", "RUBY", "GEM_", "BUNDLE_"),
    *(
        "AWS_LAMBDA_BENCHMARK_MODE",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_NODEJS_",
        "AWS_LAMBDA_RUNTIME_VERBOSE",
    ),
)
# What AWS's client for Node.js reads before it asks for the handler: a slot is started with it.
_LOGGING = ("AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL")
_NAMES = frozenset({"AWS_LAMBDA_EXEC_WRAPPER", "GCONV_PATH", "LANG", "LANGUAGE", "LOCPATH"})
# Those of NODE_OPTIONS that change how it runs, and need nothing of a function: it can be started with them.
_OPTION = re.compile(
    r"--(enable-source-maps|no-deprecation|no-warnings|trace-(warnings|deprecation|uncaught)|stack-trace-limit=\d+"
    r"|unhandled-rejections=[a-z-]+|dns-result-order=\w+|max-http-header-size=\d+|max-old-space-size=\d+)"
)
_READ_LATER = frozenset({"NODE_ENV", "NODE_TLS_REJECT_UNAUTHORIZED"})

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


def started_with(spec: EnvironmentSpec) -> EnvironmentSpec:
    """The start, with what of the function's variables a slot can be started with."""
    if spec.ahead_env is None:
        return spec
    own = {name: spec.env[name] for name in _LOGGING if name in spec.env}
    options = spec.env.get("NODE_OPTIONS")
    if options is not None and all(map(_OPTION.fullmatch, options.split())):
        own["NODE_OPTIONS"] = options
    return replace(spec, ahead_env={**spec.ahead_env, **own}) if own else spec


def obstacle(spec: EnvironmentSpec) -> str | None:
    """The variable that stands in the way; None if the start may have a slot."""
    own, env = _own(spec), spec.env
    prefixes = (*_PREFIXES, *(_OF_WAITING if spec.fork_env is None else _OF_PYTHON))
    for name in sorted(env):
        if name == "PYTHONPATH" and spec.fork_env is not None:
            if not all(folder.startswith("/") for folder in env[name].split(":")):
                return name
        elif (name in _NAMES or name.startswith(prefixes)) and env[name] != own.get(name):
            if name not in _READ_LATER:
                return name
    return None


def _own(spec: EnvironmentSpec) -> Mapping[str, str]:
    """What a slot is started with."""
    return (spec.ahead_env if spec.fork_env is None else spec.fork_env) or {}


def key(spec: EnvironmentSpec) -> tuple[object, ...]:
    """What starts that one kind of slot can serve have in common."""
    return (*spec.argv, *spec.prefixes, spec.runtime_dir, *sorted(_own(spec).items()))


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
