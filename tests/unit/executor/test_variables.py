from lambent.executor import variables
from lambent.kernel.models import Archive, FunctionVersion, LoggingConfig


def target(environment: dict[str, str] | None = None) -> FunctionVersion:
    return FunctionVersion(
        name="f",
        uid="u",
        version="$LATEST",
        generation=1,
        revision_id="r",
        runtime="python3.11",
        handler="app.handler",
        role="arn:aws:iam::000000000000:role/r",
        archive=Archive("00" * 32, 1, 1),
        last_modified=0.0,
        environment=environment,
        logging=LoggingConfig(log_group="/aws/lambda/f"),
    )


def build(environment: dict[str, str] | None = None, token: str | None = None) -> dict[str, str]:
    return variables.build(
        target(environment),
        runtime={"PATH": "/usr/bin", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"},
        region="us-east-1",
        log_stream="2026/01/31/[$LATEST]abc",
        credentials=variables.Credentials("key", "secret", token),
        endpoints={"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"},
    )


def test_every_reserved_variable_is_there() -> None:
    made = build(token="token")
    assert made["_HANDLER"] == "app.handler"
    assert made["AWS_REGION"] == made["AWS_DEFAULT_REGION"] == "us-east-1"
    assert made["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert made["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert made["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert made["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert made["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/f"
    assert made["AWS_LAMBDA_LOG_STREAM_NAME"] == "2026/01/31/[$LATEST]abc"
    assert made["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert made["LAMBDA_TASK_ROOT"] == "/var/task"
    assert made["LAMBDA_RUNTIME_DIR"] == "/var/runtime"
    assert made["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert (made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"]) == ("key", "secret")
    assert made["AWS_SESSION_TOKEN"] == "token"
    assert made["TZ"] == ":UTC"


def test_keys_without_a_session_token_get_none() -> None:
    assert "AWS_SESSION_TOKEN" not in build()


def test_the_functions_own_variables_win_over_defaults_and_endpoints_but_not_over_reserved_ones() -> None:
    made = build({"TZ": "Europe/Berlin", "AWS_ENDPOINT_URL_S3": "http://x", "AWS_REGION": "mars"})
    assert made["TZ"] == "Europe/Berlin"
    assert made["AWS_ENDPOINT_URL_S3"] == "http://x"
    assert made["AWS_REGION"] == "us-east-1"


def test_secrets_are_not_in_the_credentials_repr() -> None:
    assert "secret" not in repr(variables.Credentials("key", "secret", "token"))
