"""provided.al2 and provided.al2023: the function brings its runtime, an executable named `bootstrap` in its
code or in a layer, so nothing has to be on the machine.

AWS: "OS-only runtimes", "Building a custom runtime". Here `bootstrap` finds this machine's /usr and /lib
instead of Amazon Linux's: what is linked statically, or against a C library that is here, runs.
"""

from lambent.executor.runtimes.family import (
    TASK_ROOT,
    Options,
    Place,
    RuntimeCommand,
    RuntimeInfo,
    variables,
)
from lambent.executor.runtimes.folders import put_folder
from lambent.kernel.errors import ServiceException


class ProvidedFamily:
    """See `family.Family`."""

    names = ("provided.al2", "provided.al2023")

    def __init__(self, place: Place) -> None:
        self._made = False
        self._folder = place.root / "provided"

    def scan(self) -> None:
        """Nothing to look for."""

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        return None, None

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand:
        self._make_folder()
        return RuntimeCommand(
            argv=(),
            prefixes=(),
            runtime_dir=self._folder,
            env=variables(handler),
            version_text=runtime.replace(".", ":", 1),
            entrypoints=(f"{TASK_ROOT}/bootstrap", "/opt/bootstrap"),
        )

    def _make_folder(self) -> None:
        """At the first start only: a look at the machine writes nothing for what nobody uses."""
        if not self._made:
            put_folder(self._folder)
            self._made = True

    def info(self, runtime: str) -> RuntimeInfo:
        return RuntimeInfo(runtime, True, runs_on=runtime, client="the function's own")

    async def install(self, runtime: str, options: Options) -> None:
        raise ServiceException(f"There is nothing to install for {runtime}: a function brings its own runtime.")
