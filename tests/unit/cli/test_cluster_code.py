"""What a gateway says of runtimes, from what executors say of themselves."""

from typing import cast

from lambent.cli.cluster import Membership
from lambent.cli.cluster_code import ClusterCode


class Members:
    def __init__(self, found: dict[str, tuple[str, str]]) -> None:
        self.found = found

    def runtimes(self) -> dict[str, tuple[str, str]]:
        return self.found


def code(found: dict[str, tuple[str, str]]) -> ClusterCode:
    return ClusterCode(cast(Membership, Members(found)))


async def test_a_runtime_is_there_if_one_executor_has_it() -> None:
    made = code({"python3.11": ("python3.11", ""), "python3.12": ("", "install it")})
    assert made.runtime_problem("python3.11") == (None, None)
    assert made.runtime_problem("python3.12") == ("install it", None)
    assert [(each.runtime, each.available) for each in await made.listing()] == [
        ("python3.11", True),
        ("python3.12", False),
    ]


def test_what_nobody_has_and_that_nobody_is_there_is_said() -> None:
    assert "No executor of the cluster can run python3.13" in str(
        code({"python3.11": ("python3.11", "")}).runtime_problem("python3.13")[0]
    )
    assert "lambent executor" in str(code({}).runtime_problem("python3.11")[0])


def test_what_aws_does_not_take_any_more_is_refused_whoever_is_there() -> None:
    assert code({}).runtime_problem("python2.7")[0] != code({}).runtime_problem("python3.11")[0]
