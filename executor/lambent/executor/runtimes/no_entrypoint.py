"""What an environment runs whose function brings no bootstrap that runs: it answers each event with AWS's
error, which names the request, until the function is changed. Copied into the folder of the OS-only runtimes.

The text comes as the only argument. Standard library only, no newer syntax than Python 3.9.
"""

import http.client
import json
import os
import sys


def run(problem: str) -> None:
    """Never returns."""
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        event = api.getresponse()
        event.read()
        asked = event.headers["Lambda-Runtime-Aws-Request-Id"]
        error = "Runtime.InvalidEntrypoint"
        body = {"errorType": error, "errorMessage": f"RequestId: {asked} Error: {problem}"}
        api.request(
            "POST",
            f"/2018-06-01/runtime/invocation/{asked}/error",
            json.dumps(body),
            {"Lambda-Runtime-Function-Error-Type": error, "Content-Type": "application/json"},
        )
        api.getresponse().read()


if __name__ == "__main__":
    run(sys.argv[1])
