"""Method and path to operation."""

import pytest

from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.protocol.model import Operation
from lambent.gateway.protocol.routes import Match, Router
from lambent.kernel.errors import SerializationException, UnknownOperationException

PROTOCOL = LambdaProtocol()
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"


@pytest.mark.parametrize(
    ("method", "path", "query", "operation", "uri"),
    [
        ("POST", f"/2015-03-31/functions/{ARN}/invocations", b"", "Invoke", {"FunctionName": ARN}),
        (
            "POST",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations",
            b"Qualifier=%24LATEST",
            "Invoke",
            {"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f"},
        ),
        (
            "GET",
            "/2025-12-01/durable-executions/arn%3Af%3A1%2Fdurable-execution%2Fn%2Fi/state",
            b"",
            "GetDurableExecutionState",
            {"DurableExecutionArn": "arn:f:1/durable-execution/n/i"},
        ),
        ("GET", "/2018-10-31/layers", b"find=LayerVersion&Arn=a", "GetLayerVersionByArn", {}),
        ("GET", "/2018-10-31/layers", b"Marker=x", "ListLayers", {}),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency",
            b"List=ALL",
            "ListProvisionedConcurrencyConfigs",
            {"FunctionName": "f"},
        ),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency",
            b"Qualifier=1",
            "GetProvisionedConcurrencyConfig",
            {"FunctionName": "f"},
        ),
        ("GET", "/2015-03-31/functions/", b"", "ListFunctions", {}),
        ("GET", "/2015-03-31/functions/a+b", b"", "GetFunction", {"FunctionName": "a+b"}),
    ],
)
def test_finds_the_operation(method: str, path: str, query: bytes, operation: str, uri: dict[str, str]) -> None:
    for given in (path, path.encode()):
        match = PROTOCOL.match(method, given, query)
        assert (match.operation, match.uri) == (operation, uri)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", ""),
        ("PATCH", "/2015-03-31/functions/f"),
        ("POST", "/2015-03-31/functions/f/invocations/more"),
        ("POST", "/2014-03-31/functions/f/invocations"),
        ("GET", "/2017-03-31/tags/a/b"),
        ("POST", "/2015-03-31/functions/f%2Finvocations"),
    ],
)
def test_anything_else_is_awss_404(method: str, path: str) -> None:
    with pytest.raises(UnknownOperationException) as caught:
        PROTOCOL.match(method, path)
    reply = PROTOCOL.error(caught.value)
    assert reply.status == 404
    assert (b"x-amzn-errortype", b"UnknownOperationException") in reply.headers


def test_a_query_without_end_is_refused() -> None:
    with pytest.raises(SerializationException):
        PROTOCOL.match("DELETE", f"/2017-03-31/tags/{ARN}", b"&".join([b"tagKeys=a"] * 1001))


def test_greedy_labels_take_slashes_and_fixed_words_win() -> None:
    def operation(name: str, path: str) -> Operation:
        return Operation(name, "GET", path, 200, (), False)

    router = Router(
        [
            operation("Whole", "/a/{Key+}"),
            operation("Tail", "/a/{Key+}/tail"),
            operation("Fixed", "/a/word"),
            operation("One", "/b/{Id}/x"),
            operation("Word", "/b/word/y"),
        ]
    )
    assert router.match("GET", "/a/b/c%20d") == Match("Whole", {"Key": "b/c d"}, {})
    assert router.match("GET", "/a/b/c/tail") == Match("Tail", {"Key": "b/c"}, {})
    assert router.match("GET", "/a/word").operation == "Fixed"
    assert router.match("GET", "/b/word/x") == Match("One", {"Id": "word"}, {})
