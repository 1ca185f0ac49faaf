"""How the model is asked: at once, after worked examples, and after worked examples that show a step."""

from __future__ import annotations

from typing import Any

MODEL = "smollm2"  # as the server names it
PARAMETERS = 134_515_008
EXAMPLES = (
    ("What is 12 + 7?", "12 + 7 = 19", "19"),
    ("Dora has 4 pens and finds 5 more. How many pens does Dora have now?", "4 + 5 = 9", "9"),
    ("Ann has 15 apples and gives 6 to Ben. How many apples are left?", "15 - 6 = 9", "9"),
    ("How many days are in 3 weeks?", "3 x 7 = 21", "21"),
)


def smollm2_recipes(temperature: float = 0.6) -> dict[str, dict[str, Any]]:
    """The sources of the shipped log, as the JSON of `collect.Recipe`: `direct`, `examples` and `steps`.

    Every prompt is completed as it stands, without a chat's roles (`chat_template_kwargs.raw`, which `alloc smollm2` knows),
    and ends at the first line's end. The space at the end of a prompt is one token that need not be written.

    Args:
      temperature: of the sampling.

    >>> smollm2_recipes()["direct"]["prompt"]
    'Question: {question}\\nAnswer with a number: '
    """
    shown = [_shown([(question, answer) for question, _, answer in EXAMPLES])]
    shown += [_shown([(question, step) for question, step, _ in EXAMPLES])]
    return {
        "direct": _recipe("Question: {question}\nAnswer with a number: ", 6, temperature),
        "examples": _recipe(shown[0], 6, temperature),
        "steps": _recipe(shown[1], 24, temperature),
    }


def _shown(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in [*pairs, ("{question}", "")])[
        :-2
    ]


def _recipe(prompt: str, limit: int, temperature: float) -> dict[str, Any]:
    raw = {"chat_template_kwargs": {"raw": True}, "stop": ["\n"]}
    common = {"model": MODEL, "parameters": PARAMETERS, "temperature": temperature, "extra_body": raw}
    return {**common, "prompt": prompt, "max_tokens": limit}
