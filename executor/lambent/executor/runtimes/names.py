"""The runtime names that AWS knows, because a name is refused for one of three reasons (AWS has no such
runtime, AWS takes no new functions of it, this machine cannot run it) and each has its own text.

AWS: "Lambda runtimes", and the enum of the service model.
"""

import re

DEPRECATED = (
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs16.x",
    "nodejs18.x",
    "java8",
    "python2.7",
    "python3.6",
    "python3.7",
    "python3.8",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "dotnet6",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "provided",
)
CURRENT = (
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "nodejs26.x",
    "java8.al2",
    "java8.al2023",
    "java11",
    "java11.al2023",
    "java17",
    "java17.al2023",
    "java21",
    "java25",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "dotnet8",
    "dotnet10",
    "ruby3.2",
    "ruby3.3",
    "ruby3.4",
    "ruby4.0",
    "provided.al2",
    "provided.al2023",
)
PYTHON = tuple(name for name in CURRENT if name.startswith("python"))


def python_minor(runtime: str) -> int | None:
    """11 for python3.11; None for what is not a current Python runtime."""
    match = re.fullmatch(r"python3\.(\d+)", runtime)
    return int(match[1]) if match and runtime in CURRENT else None


def refusal(runtime: str) -> str | None:
    """Why AWS itself would refuse a new function of this runtime, in its words; None if it would not."""
    if runtime in DEPRECATED:
        return (
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in CURRENT:
        known = ", ".join((*CURRENT, *DEPRECATED))
        return (
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{known}] or be a valid ARN"
        )
    return None
