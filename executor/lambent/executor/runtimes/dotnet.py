"""dotnet8 and later cannot run yet: AWS's runtime client for .NET comes as a NuGet package that Lambent
does not fetch. What is published as a program of its own runs as an OS-only function.
"""

from collections.abc import Sequence

from lambent.executor.runtimes import names
from lambent.executor.runtimes.family import Options, Place, RuntimeCommand, RuntimeInfo
from lambent.kernel.errors import ServiceException


class DotnetFamily:
    """See `family.Family`."""

    names: Sequence[str] = tuple(name for name in names.CURRENT if name.startswith("dotnet"))

    def __init__(self, place: Place) -> None:
        """`place` is that of every family; there is nothing to look for."""

    def scan(self) -> None:
        """Nothing to look for."""

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        version = runtime.removeprefix("dotnet")
        return (
            f"Lambent cannot run {runtime} yet: it does not fetch AWS's runtime client for .NET. Publish the "
            f"function as a program (Amazon.Lambda.RuntimeSupport, AssemblyName bootstrap, dotnet publish "
            f"--self-contained, .NET {version}) and create it with the runtime provided.al2023.",
            None,
        )

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        return None

    def info(self, runtime: str) -> RuntimeInfo:
        return RuntimeInfo(runtime, False, problem=self.problem(runtime)[0])

    async def install(self, runtime: str, options: Options) -> None:
        raise ServiceException(self.problem(runtime)[0])
