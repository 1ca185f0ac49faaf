"""Connections: what is written at once goes at once, and the heap of a server that runs."""

import asyncio
import gc
import sys
import threading
import urllib.request
from contextlib import suppress

import pytest

from alloc_jax.serve.web.connections import Joined, run, timed
from tests.fake_server import served


class Told:
    """A transport that remembers what it was told."""

    def __init__(self):
        self.parts = []

    def write(self, part):
        self.parts.append(part)

    def close(self):
        self.parts.append("closed")

    def is_closing(self):
        return False


@pytest.mark.parametrize(
    ("turns", "sent"),
    [
        ([["head", "body"]], [b"headbody"]),
        ([["head", "body", "more"], ["last"]], [b"headbody", b"more", b"last"]),
        ([["head"], ["body"]], [b"head", b"body"]),
        ([["head", None]], [b"head", "closed"]),
        ([["head", "body", None]], [b"headbody", "closed"]),
    ],
)
def test_a_head_goes_with_its_body_or_alone_at_the_end_of_its_turn(turns, sent):
    async def writing():
        told = Told()
        joined = Joined(told, asyncio.get_running_loop())
        for turn in turns:
            for part in turn:
                joined.close() if part is None else joined.write(part.encode())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return told.parts

    assert asyncio.run(writing()) == sent


def test_the_head_of_a_stream_does_not_wait_for_its_first_part():
    told = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not told.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"late"})

    with served(app, http=timed(300.0, 300.0), lifespan="off") as url, urllib.request.urlopen(url) as response:
        assert response.status == 200
        told.set()
        assert response.read() == b"late"


def test_what_is_there_before_the_first_request_is_never_looked_through_again():
    seen = {}

    async def app(scope, receive, send):
        await receive()
        seen.update(frozen=gc.get_freeze_count(), tracked=len(gc.get_objects()), young=gc.get_threshold()[0])
        await send({"type": "lifespan.startup.failed", "message": "seen"})

    young, turn = gc.get_threshold(), sys.getswitchinterval()
    try:
        with suppress(SystemExit):
            run(app, port=0)
    finally:
        gc.unfreeze()
        gc.set_threshold(*young)
        sys.setswitchinterval(turn)
    assert seen["frozen"] > 10 * seen["tracked"] and seen["young"] > young[0]
