"""`lambent deploy --publish` and `--alias`: from the code that was just deployed to a version, and to the name
that callers use for it."""

from lambent.cli.aws import Lambda
from lambent.cli.client import Failed

_WAITS = {"Delay": 1, "MaxAttempts": 120}


def publish(aws: Lambda, name: str, alias: str | None) -> str:
    """The number of the version, which is the last one if nothing has changed since; `alias` is made, or moved
    whole, to it. Raises Failed with what is done already."""
    version: str | None = None
    try:
        with aws.errors():
            version = str(aws.client.publish_version(FunctionName=name)["Version"])
            waiter = aws.client.get_waiter("published_version_active")
            waiter.wait(FunctionName=name, Qualifier=version, WaiterConfig=_WAITS)
            if alias is not None:
                _move(aws, name, alias, version)
    except Failed as failure:
        done = "nothing is published" if version is None else f"version {version} is published"
        raise Failed(f"{failure}\nThe code is deployed, and {done}.") from None
    return version


def _move(aws: Lambda, name: str, alias: str, version: str) -> None:
    members = {"FunctionName": name, "Name": alias, "FunctionVersion": version}
    try:
        aws.client.update_alias(**members, RoutingConfig={})
    except aws.client.exceptions.ResourceNotFoundException:
        aws.client.create_alias(**members)
