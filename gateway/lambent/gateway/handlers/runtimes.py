"""What runtime a function may name, because a retired one is refused by AWS with a text of its own, before
anybody asks whether this machine can run it.

Names that AWS never had are refused by the protocol layer. AWS: "Lambda runtimes".
"""

from lambent.gateway.services import Call, Services
from lambent.kernel.errors import InvalidParameterValueException

# Retired so long ago that AWS takes them neither for new functions nor for updates.
RETIRED = frozenset(
    {
        "nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x",
        "python2.7", "python3.6", "ruby2.5", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1",
    }
)  # fmt: skip


def accept_runtime(services: Services, call: Call, runtime: str) -> None:
    """Refuses a runtime that is retired or not on this machine; a runtime that runs as another one
    adds a warning to the answer. Raises InvalidParameterValueException."""
    if runtime in RETIRED:
        raise InvalidParameterValueException(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    problem, warning = services.code.runtime_problem(runtime)
    if problem is not None:
        raise InvalidParameterValueException(problem)
    if warning is not None:
        call.warnings.append(warning)
