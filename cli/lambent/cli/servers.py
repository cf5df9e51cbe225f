"""The servers that `lambent up` owns, in one place for the wiring. What each is lies in its own module."""

from lambent.cli.child import Child, Command, Readiness
from lambent.cli.data_folder import DataFolder
from lambent.cli.redis_server import Engine, OwnRedis
from lambent.cli.s3_server import OwnS3

__all__ = ["Child", "Command", "DataFolder", "Engine", "OwnRedis", "OwnS3", "Readiness"]
