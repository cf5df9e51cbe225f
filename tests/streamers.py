"""Functions that stream their response, in Python: at import they speak the Runtime API themselves, as a custom
runtime does, since the official Python client has no streaming."""

from textwrap import dedent

_LOOP = dedent(
    '''
    import base64, http.client, json, os, sys, time

    host = os.environ["AWS_LAMBDA_RUNTIME_API"]
    headers = {}


    def chunks(connection, parts):
        """Sends the parts as they come; what a part raises is the trailers'."""
        trailers = b""
        try:
            for part in parts:
                data = part.encode() if isinstance(part, str) else part
                connection.send(b"%x\\r\\n%b\\r\\n" % (len(data), data))
        except Exception as failure:
            body = json.dumps({"errorType": type(failure).__name__, "errorMessage": str(failure)})
            trailers = (
                b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\\r\\n"
                b"Lambda-Runtime-Function-Error-Body: %b\\r\\n" % base64.b64encode(body.encode())
            )
        connection.send(b"0\\r\\n%b\\r\\n" % trailers)


    def serve(respond, content_type="text/plain"):
        connection = http.client.HTTPConnection(host)
        while True:
            connection.request("GET", "/2018-06-01/runtime/invocation/next")
            answer = connection.getresponse()
            event = json.loads(answer.read())
            headers.update({name.lower(): value for name, value in answer.getheaders()})
            request_id = headers["lambda-runtime-aws-request-id"]
            connection.putrequest("POST", f"/2018-06-01/runtime/invocation/{request_id}/response")
            connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.putheader("Content-Type", content_type)
            connection.putheader(
                "Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
            )
            connection.endheaders()
            chunks(connection, respond(event))
            answer = connection.getresponse()
            answer.read()
            print("posted", answer.status)
    '''
)


def streamer(respond: str, *, content_type: str = "text/plain") -> str:
    """The code of app.py; `respond` is a Python function `respond(event)` that yields the parts of the
    response."""
    return f"{_LOOP}\n{dedent(respond)}\nserve(respond, {content_type!r})\n"
