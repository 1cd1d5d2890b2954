"""HTTP/1.1 as uvicorn speaks it, with a bound on what comes before and after a body."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024


class BoundedHead(HttpToolsProtocol):
    """Ends a connection whose request line, headers or trailers do not end.

    The parser keeps them all in memory and has no limit of its own. Counted are the bytes that
    came since the last headers, body or message were complete.
    """

    _open_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._open_bytes += len(data)
        super().data_received(data)
        if self._open_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request line and headers are too long.")

    def on_headers_complete(self) -> None:
        self._open_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._open_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._open_bytes = 0
        super().on_message_complete()
