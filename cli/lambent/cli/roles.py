"""The roles of a cluster by name."""

from collections.abc import Callable, Mapping

from lambent.cli.executor_role import ExecutorRole
from lambent.cli.gateway_role import GatewayRole
from lambent.cli.process import Process
from lambent.cli.scheduler_role import SchedulerRole
from lambent.kernel.settings import Settings

ROLES: Mapping[str, Callable[[Settings], Process]] = {
    "gateway": GatewayRole,
    "scheduler": SchedulerRole,
    "executor": ExecutorRole,
}
