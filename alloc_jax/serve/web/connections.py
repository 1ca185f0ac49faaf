"""Connections with time limits: a client that sends its headers slowly, or stops reading, does not stay."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from alloc_jax.serve.web.protocol import error_body, json_bytes

_HEADER_BYTES = 1 << 16  # of a request's line and headers
_YOUNG = 10_000  # objects between two collections of garbage; most of a request's are gone without one


def run(
    app: Callable, at: socket.socket | None = None, *, header_s: float = 20.0, write_s: float = 30.0, **options: Any
) -> bool:
    """Serve an application until it is interrupted; then requests that are being answered are finished.

    Args:
      app: of ASGI.
      at: where it listens; None: at the options' host and port.
      header_s: see `timed`.
      write_s: likewise.
      options: further ones of uvicorn's.

    Returns:
      Whether it could listen.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    sys.setswitchinterval(5e-4)  # threads that read long texts hold up the event loop for no longer than this
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody asks where a client is
        http=timed(header_s, write_s),
        loop="asyncio",  # uvloop, where something else brought it, was seen to close for ever on a stream that nobody read
        ws="none",
        **options,
    )
    server = uvicorn.Server(config)
    # What is there before the first request stays: looking through all of it again and again would stop everybody for so long.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    server.run(sockets=None if at is None else [at])
    return server.started


class Joined:
    """A transport that sends what is written in one turn of the event loop at once, as far as it is the head of a response and its body:
    each packet wakes its reader.

    Args:
      transport: that it writes to.
      loop: whose turn it is.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self.transport, self.loop = transport, loop
        self.is_closing = transport.is_closing
        self.held: bytes | None = None
        self.turn: asyncio.Handle | None = None  # at whose end the head goes alone

    def write(self, part: bytes) -> None:
        if self.turn is None:  # the first
            self.held = part
            self.turn = self.loop.call_soon(self._flush)
        elif self.held is not None:
            self.turn.cancel()
            self.transport.write(self.held + part)
            self.held = None
        else:
            self.transport.write(part)

    def close(self) -> None:
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self.held is not None:
            self.transport.write(self.held)
            self.held = None


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
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before:
                self.cycle.transport = cast(asyncio.Transport, Joined(self.transport, self.loop))

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
