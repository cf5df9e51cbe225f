"""A server that answers what a test says, for what commands do with the answers of any server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from answers import Something


@pytest.fixture
def something() -> Iterator[Something]:
    """It answers `{}` to everything until told otherwise."""
    made = Something()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.split("?")[0]
            answer = made.answer_to(self.command, path)
            made.asked.append((path, body))
            if answer.silent:
                made.ended.wait(30)
            elif answer.broken:
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
            else:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Not on the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.ended.set()
        server.shutdown()
        thread.join()
