"""What agents' libraries do with a gateway, run from the tools' environment: `python clients.py NAME URL` prints what they saw as JSON."""

import json
import sys


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


QUESTION = "123 + 456"
FUNCTION = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}


def litellm(url):
    import litellm as client

    to = {"model": "openai/alloc/auto", "api_base": url, "api_key": "none", "max_retries": 0}
    asked = {"messages": [{"role": "user", "content": QUESTION}], "tools": [{"type": "function", "function": FUNCTION}]}
    said = client.completion(**to, **asked)
    parts = list(client.completion(**to, **asked, stream=True))
    response = client.responses(**to, input=QUESTION, tools=[{"type": "function", **FUNCTION}])
    events = [event.type for event in client.responses(**to, input=QUESTION, stream=True)]
    vectors = client.embedding(**{**to, "model": "openai/e"}, input=["one", "two"], encoding_format="float")
    return {
        "call": json.loads(said.choices[0].message.tool_calls[0].function.arguments),
        "tokens": said.usage.total_tokens,
        "streamed": json.loads(client.stream_chunk_builder(parts).choices[0].message.tool_calls[0].function.arguments),
        "response": [item.type for item in response.output],
        "events": [str(getattr(kind, "value", kind)) for kind in events],
        "vectors": len(vectors.data),
    }


def langchain(url):
    from langchain_openai import ChatOpenAI

    found = {}
    for name, more in {"chat": {}, "responses": {"use_responses_api": True}}.items():
        model = ChatOpenAI(model="alloc/auto", base_url=url, api_key="none", max_retries=0, stream_usage=True, **more)
        bound = model.bind_tools([add])
        said = bound.invoke(QUESTION)
        whole = None
        for part in bound.stream(QUESTION):
            whole = part if whole is None else whole + part
        back = [("user", QUESTION), said, {"role": "tool", "tool_call_id": said.tool_calls[0]["id"], "content": "579"}]
        schema = {
            "title": "total",
            "type": "object",
            "properties": {"total": {"type": "integer"}},
            "required": ["total"],
        }
        found[name] = {
            "call": said.tool_calls[0]["args"],
            "tokens": said.usage_metadata["total_tokens"],
            "streamed": whole.tool_calls[0]["args"],
            "streamed tokens": whole.usage_metadata["total_tokens"],
            "answer": model.invoke(back).text,
            "structured": model.with_structured_output(schema, method="json_schema").invoke(QUESTION),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
