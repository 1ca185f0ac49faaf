"""Connections with time limits: a client that sends its headers slowly, or stops reading, does not stay."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from alloc_jax.serve.web.protocol import error_body, json_bytes

_HEADER_BYTES = 1 << 16  # of a request's line and headers


def timed(header_s: float, write_s: float) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with limits.

    Args:
      header_s: until a request's headers are whole, from its first byte or from the connection's begin.
      write_s: for which a client may read nothing of what is sent.
    """

    class Timed(HttpToolsProtocol):
        waiting: asyncio.TimerHandle | None = None  # for headers
        stalled: asyncio.TimerHandle | None = None  # in writing
        size = 0

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc) -> None:
            self._heard()
            self.resume_writing()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self.size = 0
            self._wait()
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._grown(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._grown(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._heard()
            super().on_headers_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self.stalled is None:
                self.stalled = self.loop.call_later(write_s, self.transport.abort)

        def resume_writing(self) -> None:
            if self.stalled is not None:
                self.stalled.cancel()
                self.stalled = None
            super().resume_writing()

        def send_400_response(self, msg: str) -> None:
            self._end(400, msg)

        def _wait(self) -> None:
            self._heard()
            late = f"the request's headers did not come within {header_s:g} s"
            self.waiting = self.loop.call_later(header_s, self._end, 408, late)

        def _heard(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

        def _grown(self, size: int) -> None:
            self.size += size
            if self.size > _HEADER_BYTES:
                raise ValueError("headers are too large")  # the parser's error, and so a 400

        def _end(self, status: int, message: str) -> None:
            if self.transport.is_closing():
                return
            body = json_bytes(error_body(status, message))
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
            self.transport.close()

    return Timed
