"""A boto3 client of a running server for the commands, whose every failure is one line that says what to do.

boto3 is imported when a command needs it: it takes longer than most commands. The person's own AWS
configuration is not read: its profiles are for AWS, and a broken one must not keep a command from its server.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambent.cli.client import REQUEST_ID, Failed, checked, no_lambent, not_there
from lambent.kernel.loopback import proxies_for

_SETTINGS_OF_A_PERSON = ("profile", "config_file", "credentials_file")


class Lambda:
    """A boto3 Lambda client of the endpoint, whose errors are `Failed` inside `errors`."""

    def __init__(self, endpoint: str | None, *, read_timeout: float = 910) -> None:
        import boto3
        from botocore.config import Config
        from botocore.session import Session

        self.endpoint = checked(endpoint)
        session = Session({name: (None, None, None, None) for name in _SETTINGS_OF_A_PERSON})
        with self.errors():
            self.client = boto3.Session(
                aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID") or "lambent",
                aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY") or "lambent",
                region_name=os.environ.get("AWS_REGION") or os.environ.get("LAMBENT_REGION") or "us-east-1",
                botocore_session=session,
            ).client(
                "lambda",
                endpoint_url=self.endpoint,
                config=Config(
                    retries={"total_max_attempts": 1},
                    read_timeout=read_timeout,
                    proxies=proxies_for(self.endpoint),
                ),
            )
        # Before it is parsed: botocore trips over what is of another form.
        self.client.meta.events.register("before-parse.lambda", self._recognise)

    def _recognise(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        if REQUEST_ID not in response_dict["headers"]:
            raise no_lambent(self.endpoint, f"it answered {response_dict['status_code']}")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns botocore's exceptions into Failed."""
        from botocore import exceptions, parsers

        try:
            yield
        except exceptions.ClientError as failure:
            error = failure.response.get("Error", {})
            raise Failed(f"{error.get('Code')}: {error.get('Message')}") from None
        except (
            exceptions.EndpointConnectionError,
            exceptions.ConnectTimeoutError,
            exceptions.ConnectionClosedError,
        ):
            raise not_there(self.endpoint) from None
        except exceptions.ReadTimeoutError:
            raise Failed("the server did not answer in time. Look at its log.") from None
        except parsers.ResponseParserError:
            raise no_lambent(self.endpoint, "its answer is none of AWS's") from None
        except exceptions.ParamValidationError as failure:
            _, _, wrong = str(failure).partition("\n")
            raise Failed(f"{'; '.join(wrong.splitlines())}. Correct what you gave.") from None
        except exceptions.WaiterError as failure:
            raise Failed(_not_ready(failure.last_response, str(failure))) from None
        except exceptions.BotoCoreError as failure:
            raise Failed(
                f"{self.endpoint} could not be asked: {failure}. "
                "Look at the server's log, or name another with --endpoint URL."
            ) from None

    def configuration(self, name: str) -> Mapping[str, Any] | None:
        """A function's configuration, or None if there is no such function. Raises Failed."""
        with self.errors():
            try:
                found: Mapping[str, Any] = self.client.get_function_configuration(FunctionName=name)
            except self.client.exceptions.ResourceNotFoundException:
                return None
        return found


def _not_ready(last: object, otherwise: str) -> str:
    """What the server says of a function that did not become ready."""
    found = last.get("Configuration", last) if isinstance(last, Mapping) else {}
    for status, reason in (("LastUpdateStatus", "LastUpdateStatusReason"), ("State", "StateReason")):
        if found.get(reason):
            return f"the function is {found.get(status)}: {found[reason]}"
    return f"{otherwise}. Look at the server's log, or try again."
