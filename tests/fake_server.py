"""An OpenAI-compatible server in a thread, which misbehaves as it is told and remembers what it has delivered."""

import asyncio
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

FAULTS = ("429", "500", "503", "html", "truncated", "empty", "hang", "drop")


@dataclass
class Fake:
    """Answers `a + b` rightly with a chance that falls with the size of the numbers; a word is a token."""

    fault: Callable[[int, dict], str | None] = lambda number, body: None  # what becomes of a request, by its number
    honours_n: bool = True
    honours_seed: bool = True
    honours_temperature: bool = True
    usage: bool = True
    delay_s: float = 0.0
    held: Callable[[dict], bool] = lambda body: False  # whether a request has to wait still
    url: str = ""
    requests: list[dict] = field(default_factory=list)  # bodies, in the order of their arrival
    headers: list[dict] = field(default_factory=list)
    delivered: Counter = field(default_factory=Counter)  # tokens and samples of the good replies
    faults: Counter = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    extra: dict = field(default_factory=dict)  # fields of every reply
    paths: list[str] = field(default_factory=list)
    retry_after: str = "0.01"  # of 429
    raw_usage: str = ""  # JSON text that stands as the usage, valid or not
    redirect: Callable[[], str] | None = None  # another server's URL, to which everything is sent
    tokens: Callable[[dict], int] | None = None  # written for a request, whatever its text holds
    streams: bool = True  # else it answers `stream` as if it had not been said
    chunk_s: float = 0.0  # between the events of a stream
    cut: Callable[[dict], bool] = lambda body: False  # whether what is written for a request ends at its limit

    def say(self, body: dict, number: int, choice: int) -> str | dict:
        """A text, or a message with calls of tools."""
        question = body["messages"][-1]["content"].encode("utf-8", "replace").decode()
        seed = body.get("seed") if self.honours_seed else None
        rng = random.Random(f"{question} {number if seed is None else seed} {choice}")
        if self.honours_temperature and body.get("temperature") == 0:
            rng = random.Random(question)
        try:
            a, b = (int(part) for part in question.split("=")[0].split()[-3::2])
        except ValueError:
            return "I do not know"
        right = rng.random() < 1.2 - 0.1 * len(str(a * b)) * 2
        value = a + b + (0 if right else rng.randint(1, 3))
        steps = " ".join(["so"] * rng.randint(0, 2 * len(str(a * b))))
        return f"{steps} the answer is {value}".strip()

    async def chat(self, request):
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        number = len(self.requests)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            while self.held(body):
                await asyncio.sleep(0.005)
            return await self.answer(body, number)
        finally:
            self.at_once -= 1

    async def answer(self, body: dict, number: int) -> Response:
        fault = self.fault(number, body)
        if fault:
            self.faults[fault] += 1
        if fault in ("429", "500", "503", "400", "401", "404"):
            wait = {"retry-after": self.retry_after} if fault == "429" else {}
            return JSONResponse({"error": {"message": f"told to say {fault}"}}, int(fault), headers=wait)
        if fault in ("echo", "echo with 200"):
            said = f"Incorrect API key provided: {self.headers[number - 1].get('authorization')}, or gsk_0123456789"
            return JSONResponse({"error": {"message": said}}, 401 if fault == "echo" else 200)
        if fault == "no stream":
            return JSONResponse({"error": {"message": "stream: there is none"}}, 400)
        if self.redirect is not None:
            return Response(status_code=307, headers={"location": f"{self.redirect()}/chat/completions"})
        if fault == "html":
            return Response("<html>a proxy's page</html>", media_type="text/html")
        if fault == "hang":
            await asyncio.sleep(30)
        if fault == "drop":
            return Dropped()
        n = body.get("n", 1) if self.honours_n else 1
        said = [self.say(body, number, choice) for choice in range(n)]
        messages = [{"content": one} if isinstance(one, str) else one for one in said]
        texts = [one if isinstance(one, str) else json.dumps(one) for one in said]
        usage = {
            "prompt_tokens": len(str(body["messages"]).split()),
            "completion_tokens": self.tokens(body) if self.tokens else sum(len(text.split()) for text in texts),
        }
        usage["total_tokens"] = sum(usage.values())
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": j,
                    "message": {"role": "assistant", **one},
                    "finish_reason": "length" if self.cut(body) else finish_reason(one),
                }
                for j, one in enumerate(messages)
            ],
            **self.extra,
        }
        if fault == "empty":
            return JSONResponse({**reply, "choices": [], "usage": None})
        if fault == "truncated":
            return Response(json.dumps(reply)[:60], media_type="application/json")
        if self.usage and fault != "no usage":
            reply["usage"] = usage
        self.delivered.update(samples=n, requests=1, **usage)
        if body.get("stream") and self.streams:
            return self.streamed(reply, body, fault)
        said = json.dumps(reply)  # in ASCII, which holds half a surrogate pair, too
        if self.raw_usage:
            said = json.dumps({**reply, "usage": "?"}).replace('"?"', self.raw_usage)
        return Response(said, media_type="application/json")

    def streamed(self, reply: dict, body: dict, fault: str | None) -> Response:
        """The events of a reply: words, and arguments in pieces; cut off after three where it is told so."""

        def chunk(choices, **more):
            said = {**reply, "object": "chat.completion.chunk", "choices": choices, "usage": None, **more}
            return f"data: {json.dumps(said)}\n\n"

        choice = reply["choices"][0]
        parts = [chunk([{"index": 0, "delta": delta}]) for delta in deltas(choice["message"])]
        parts.append(chunk([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]))
        if (body.get("stream_options") or {}).get("include_usage"):
            parts.append(chunk([], usage=reply.get("usage")))
        parts.append("data: [DONE]\n\n")

        async def events():
            for number, part in enumerate(parts):
                if number == 3 and fault in ("cut", "broken off", "error event"):
                    if fault == "broken off":
                        raise ConnectionResetError("told to break off")
                    if fault == "error event":
                        yield 'data: {"error": {"message": "told to, and sk-upstream-key was here"}}\n\n'
                    return
                yield part
                await asyncio.sleep(self.chunk_s)
                if fault == "no last event" and number == len(parts) - 3:
                    raise ConnectionResetError("told to break off")

        return StreamingResponse(events(), media_type="text/event-stream")

    async def others(self, request):
        """Embeddings and completions: of each text a vector, or its first word again."""
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        fault = self.fault(len(self.requests), body)
        if fault in ("400", "500"):
            return JSONResponse({"error": {"message": f"told to say {fault}"}}, int(fault))
        vectors = request.url.path.endswith("/embeddings")
        texts = body["input" if vectors else "prompt"]
        texts = [texts] if isinstance(texts, str) else texts
        usage = {"prompt_tokens": sum(len(str(text).split()) for text in texts)}
        if vectors:
            data = [{"object": "embedding", "index": j, "embedding": [0.5, float(j)]} for j in range(len(texts))]
            reply = {"object": "list", "data": data, "model": body["model"]}
        else:
            n = body.get("n", 1)
            choices = [
                {"index": j, "text": f"{texts[j // n]} again", "finish_reason": "stop"} for j in range(n * len(texts))
            ]
            reply = {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": body["model"],
                "choices": choices,
            }
            usage["completion_tokens"] = sum(len(choice["text"].split()) for choice in choices)
        usage["total_tokens"] = sum(usage.values())
        self.delivered.update(samples=len(texts), requests=1, **usage)
        if not body.get("stream"):
            return JSONResponse({**reply, "usage": usage} if self.usage else reply)
        parts = [{**reply, "choices": [choice]} for choice in reply["choices"]]
        if (body.get("stream_options") or {}).get("include_usage"):
            parts.append({**reply, "choices": [], "usage": usage})
        said = "".join(f"data: {json.dumps(part)}\n\n" for part in parts)
        return Response(said + "data: [DONE]\n\n", media_type="text/event-stream")

    async def models(self, request):
        return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.others, methods=["POST"]),
                Route("/v1/embeddings", self.others, methods=["POST"]),
                Route("/v1/models", self.models),
            ]
        )


def finish_reason(message: dict) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def deltas(message: dict):
    """The pieces of a message, as servers stream them."""
    yield {"role": "assistant", "content": "" if message.get("content") else None}
    for name in ("reasoning_content", "content", "refusal"):
        for word in (message.get(name) or "").split():
            yield {name: word + " "}
    for j, call in enumerate(message.get("tool_calls") or []):
        about = call["function"]
        yield {"tool_calls": [{"index": j, **call, "function": {"name": about["name"], "arguments": ""}}]}
        size = max(5, len(about["arguments"]) // 8)
        for at in range(0, len(about["arguments"]), size):
            yield {"tool_calls": [{"index": j, "function": {"arguments": about["arguments"][at : at + size]}}]}


class Dropped(Response):
    """A response whose connection ends in its middle."""

    async def __call__(self, scope, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]}
        await send(start)
        await send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
        raise ConnectionResetError("told to drop the connection")


@contextmanager
def served(app, port=0, **options):
    """Runs an ASGI application on a port of the loopback, by default a free one; gives its base URL."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, log_level="critical", loop="asyncio", timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def fake_server(**options):
    """A `Fake` that is up."""
    fake = Fake(**options)
    with served(fake.app()) as url:
        fake.url = url
        yield fake


def streaming(part: bytes, times: int):
    """An upstream that streams a part so many times to whoever reads it, and answers everything else at once."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        raw = b""
        while (message := await receive()).get("more_body") or message.get("body"):
            raw += message["body"]
            if not message.get("more_body"):
                break
        stream = b'"stream": true' in raw
        kind = b"text/event-stream" if stream else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if stream:
            for _ in range(times):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
            return
        usage = {"prompt_tokens": 5, "completion_tokens": 5}
        reply = {"choices": [{"message": {"content": "it is 4"}, "finish_reason": "stop"}], "usage": usage}
        await send({"type": "http.response.body", "body": json.dumps(reply).encode()})

    return app
