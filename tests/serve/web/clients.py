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


def anthropic(url):
    import anthropic as package

    client = package.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0)
    tool = {"name": "add", "description": "Adds two numbers.", "input_schema": FUNCTION["parameters"]}
    asked = {"model": "alloc/auto", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
    said = client.messages.create(**asked, system="Add.", tools=[tool])
    call = said.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "579"}
    back = [*asked["messages"], {"role": "assistant", "content": said.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(**asked, tools=[tool]) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
    try:
        client.messages.create(**{**asked, "model": "alloc/none"})
        wrong = None
    except package.NotFoundError as error:
        wrong = error.body["error"]["type"]
    return {
        "call": call.input,
        "stop": said.stop_reason,
        "tokens": said.usage.input_tokens + said.usage.output_tokens,
        "streamed": streamed.content[-1].input,
        "streamed tokens": streamed.usage.input_tokens + streamed.usage.output_tokens,
        "events": kinds,
        "answer": client.messages.create(**{**asked, "messages": back}, tools=[tool]).content[0].text,
        "text": text,
        "passed": client.messages.create(**{**asked, "model": "m"}).content[0].text,
        "wrong": wrong,
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
