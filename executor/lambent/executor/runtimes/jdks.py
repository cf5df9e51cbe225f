"""Finding JDKs and JREs by their `release` file, which every one since Java 8 has, so that looking at ten of
them starts no JVM."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import prefixes
from lambent.executor.runtimes.interpreters import Rejected

_PLACES = ("/usr/lib/jvm/*", "/usr/java/*", "/usr/local/java/*")
_MANAGED = (  # below the home folder
    ".sdkman/candidates/java/*",
    ".asdf/installs/java/*",
    ".local/share/mise/installs/java/*",
    ".jenv/versions/*",
    ".jdks/*",
)


@dataclass(frozen=True, slots=True)
class Jdk:
    """A Java that can run functions. `feature`: 17 for 17.0.15, 8 for 1.8.0_402."""

    home: Path
    version: str
    prefixes: tuple[Path, ...]

    @property
    def feature(self) -> int:
        return feature(self.version)

    @property
    def java(self) -> Path:
        return self.home / "bin/java"


def feature(version: str) -> int:
    """The number that Java's versions are called by."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return numbers[1] if numbers[0] == 1 else numbers[0]


def scan() -> tuple[list[Jdk], list[Rejected]]:
    """What is there now, in order of preference, each once; and what cannot be used."""
    good: dict[Path, Jdk] = {}
    bad: list[Rejected] = []
    for home in dict.fromkeys(path.resolve() for path in _candidates()):
        try:
            found = _judge(home)
        except OSError as failure:
            found = Rejected(home, f"cannot be looked at: {failure.strerror}")
        if isinstance(found, Jdk):
            good[home] = found
        elif found is not None:
            bad.append(found)
    return list(good.values()), bad


def _judge(home: Path) -> Jdk | Rejected | None:
    release, java = home / "release", home / "bin/java"
    if not (release.is_file() and java.exists()):
        return None
    match = re.search(r'^JAVA_VERSION="([^"]+)"', release.read_text(errors="replace"), re.MULTILINE)
    if match is None:
        return Rejected(home, "names no version in its file release")
    shown = prefixes.bindable([home], java.resolve(), release.resolve())
    return Rejected(home, shown) if isinstance(shown, str) else Jdk(home, match[1], shown)


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME", "").startswith("/"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path is not None:
        yield Path(on_path).resolve().parent.parent
    for place in _PLACES:
        yield from sorted(Path("/").glob(place[1:]), reverse=True)
    for place in _MANAGED:
        yield from sorted(prefixes.home().glob(place), reverse=True)
