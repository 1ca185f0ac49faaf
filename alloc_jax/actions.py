"""Actions: the ways to spend compute on a question, as plain values with names that files, flags and reports hold.

    abstain()                          no sample, no answer
    single(think)                      one sample
    vote(think,8)                      the most frequent of 8 answers
    vote(think,8,ties=abstain)         the same, but no answer where answers tie
    weighted_vote(think,8)             the answer with the largest sum of rewards
    best_of(think,8)                   the sample with the highest reward
    passes(think,8)                    right where any of 8 samples is right: an exact verifier picks
    unanimous(think,8)                 the answer on which all 8 samples agree, else none

A model, a prompt and a thinking budget make a source, so an action needs no more than its name. A source stands bare in
an action's name unless it holds a character of the grammar or has space at an end; then it stands as a JSON string:
vote("gpt-4.1, low",8).
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TIES = ("uniform", "first", "abstain")
TIED = ("vote", "weighted_vote")  # the aggregators whose answers can tie
AGGREGATORS = ("vote", "best_of", "weighted_vote", "passes", "unanimous", "single", "abstain")

CONSTANT = ("samples", "stated")  # resources in which an action costs the same on every question

_FORM = "vote(source,k)"
_BARE = r'[^\s"(),;=](?:[^"(),;=\n]*[^\s"(),;=])?'  # a source that needs no quotes
_TOKEN = re.compile(
    r'(?P<aggregator>[a-z_]+)\s*\(\s*(?P<arguments>(?:"(?:[^"\\]|\\.)*"|[^"()])*)\)'  # brackets may stand in quotes only
)
_ARGUMENT = re.compile(rf'\s*(?P<value>"(?:[^"\\]|\\.)*"|{_BARE}(?:=\w+)?)\s*(?:,|$)')


@dataclass(frozen=True)
class Action:
    """One way to spend compute on a question: draw `samples` from `source`, and aggregate them.

    Raises:
      ValueError: an unknown aggregator or tie rule, or arguments that the aggregator does not have.
    """

    source: str | None  # None for abstain alone
    samples: int
    aggregator: str = "vote"
    ties: str = "uniform"  # of the votes: "uniform", "first" (the tied answer drawn first) or "abstain" (no answer)

    def __post_init__(self):
        if self.aggregator not in AGGREGATORS:
            raise ValueError(f"action {self.aggregator}(...): unknown aggregator; known: {', '.join(AGGREGATORS)}")
        if self.ties not in TIES:
            raise ValueError(f"action {self.name}: unknown tie rule {self.ties!r}; known: {', '.join(TIES)}")
        if self.ties != "uniform" and self.aggregator not in TIED:
            raise ValueError(f"action {self.name}: only {' and '.join(TIED)} have a tie rule")
        if self.aggregator == "abstain":
            if self.source is not None or self.samples:
                raise ValueError(f"abstain() draws no samples, got {self.samples} of {self.source!r}")
            return
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"{self.aggregator} draws from a source, got {self.source!r}")
        try:
            object.__setattr__(self, "samples", operator.index(self.samples))  # NumPy integers are integers, too
        except TypeError:
            raise ValueError(f"action {self.name}: the number of samples is an integer, got {self.samples!r}") from None
        if self.samples < 1:
            raise ValueError(f"action {self.name}: an action draws at least 1 sample, got {self.samples}")
        if self.aggregator == "single" and self.samples != 1:
            raise ValueError(f"single draws 1 sample, got {self.samples}")

    @property
    def name(self) -> str:
        if self.aggregator == "abstain":
            return "abstain()"
        source = str(self.source)
        if re.fullmatch(_BARE, source) is None:
            source = json.dumps(source, ensure_ascii=False)
        parts = [source] if self.aggregator == "single" else [source, str(self.samples)]
        if self.ties != "uniform":
            parts.append(f"ties={self.ties}")
        return f"{self.aggregator}({','.join(parts)})"

    @classmethod
    def parse(cls, name: str) -> Action:
        """The action a name stands for.

        Raises:
          ValueError: says what is wrong with the name.

        >>> Action.parse("vote(large/think,8)")
        Action(source='large/think', samples=8, aggregator='vote', ties='uniform')
        >>> Action.parse('best_of("gpt-4.1, low", 4)').source
        'gpt-4.1, low'
        """
        match = _TOKEN.fullmatch(name.strip())
        if match is None:
            raise ValueError(f"action {name!r} is not of the form {_FORM}: {_why_not(name)}")
        aggregator = match["aggregator"]
        if aggregator not in AGGREGATORS:
            raise ValueError(f"action {name!r}: unknown aggregator; known: {', '.join(AGGREGATORS)}")
        values = list(_arguments(name, match["arguments"]))
        ties = "uniform"
        if values and (tail := re.fullmatch(r"(\w+)=(\w+)", values[-1])):
            if tail[1] != "ties":
                raise ValueError(f"action {name!r}: unknown option {tail[1]!r}; known: ties")
            ties = tail[2]
            values.pop()
        wanted = {"abstain": 0, "single": 1}.get(aggregator, 2)
        if len(values) != wanted:
            form = {0: f"{aggregator}()", 1: f"{aggregator}(source)", 2: f"{aggregator}(source,k)"}[wanted]
            raise ValueError(f"action {name!r} is not of the form {form}: it has {len(values)} arguments")
        if aggregator == "abstain":
            return abstain() if ties == "uniform" else cls(None, 0, "abstain", ties)
        source, *samples = values
        if re.fullmatch(_BARE, source) is None and not source.startswith('"'):
            raise ValueError(f"action {name!r}: the source {source!r} stands in double quotes, because it holds '='")
        if source.startswith('"'):
            try:
                source = json.loads(source, strict=False)
            except json.JSONDecodeError as error:
                raise ValueError(f"action {name!r}: the quoted source is no JSON string: {error.msg}") from None
        if samples and re.fullmatch(r"\d+", samples[0], re.ASCII) is None:
            raise ValueError(f"action {name!r} is not of the form {_FORM}: {samples[0]!r} is no number of samples")
        return cls(source, int(samples[0]) if samples else 1, aggregator, ties)


def _arguments(name: str, text: str) -> Iterator[str]:
    """The arguments between an action's brackets; a quoted one keeps its quotes."""
    at = 0
    while at < len(text) or text[:at].rstrip().endswith(","):
        match = _ARGUMENT.match(text, at)
        if match is None:
            raise ValueError(
                f"action {name!r} is not of the form {_FORM}: cannot read {text[at:].strip()!r}; a source with one of"
                ' "(),;= stands in double quotes'
            )
        yield match["value"]
        at = match.end()


def _why_not(name: str) -> str:
    text = name.strip()
    if not re.match(r"[a-z_]+\s*\(", text):
        return "it does not begin with an aggregator and a bracket"
    if not text.endswith(")"):
        return "it does not end with a bracket"
    return 'a source with one of "(),;= stands in double quotes'


def parse_actions(text: str) -> tuple[Action, ...]:
    """The actions in one string, as a flag holds them; commas, semicolons or spaces stand between them.

    Raises:
      ValueError: a piece is no action; says which and why.

    >>> [action.name for action in parse_actions("single(large/think), vote(large/think,16); abstain()")]
    ['single(large/think)', 'vote(large/think,16)', 'abstain()']
    """
    actions, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        end = match.end() if match else len(text)
        if match or text[at] not in " ,;\n\t":
            actions.append(Action.parse(text[at:end]))
        else:
            end = at + 1
        at = end
    return tuple(actions)


def single_samples(names: Iterable[str]) -> dict[str | None, int]:
    """By source, the position of the action with one sample of it; of several, the last.

    >>> single_samples(["single(small)", "vote(small,4)", "vote(large,1)"])
    {'small': 0, 'large': 2}
    """
    return {action.source: k for k, action in enumerate(map(Action.parse, names)) if action.samples == 1}


def vote(source: str, samples: int, ties: str = "uniform") -> Action:
    """Majority vote over `samples` samples of `source`.

    Args:
      source: its name.
      samples: k.
      ties: what answers that tie for the most votes earn: "uniform" takes one of them at random, "first" the one that was
        drawn first, "abstain" none. Logged samples are exchangeable, so each of the tied is the first equally often, and
        "first" earns on average exactly what "uniform" does: they differ in what a server does, not in the table.
    """
    return Action(source, samples, "vote", ties)


def weighted_vote(source: str, samples: int, ties: str = "uniform") -> Action:
    """The answer with the largest sum of rewards among `samples` samples; `ties` as in `vote`.

    Here "first" is no fair coin: of answers with equal sums, one with more samples is first more often.
    """
    return Action(source, samples, "weighted_vote", ties)


def best_of(source: str, samples: int) -> Action:
    """The sample with the highest reward of `samples`; equal rewards are broken uniformly."""
    return Action(source, samples, "best_of")


def passes(source: str, samples: int) -> Action:
    """pass@k: right where any of `samples` samples is right, because an exact verifier picks it out."""
    return Action(source, samples, "passes")


def unanimous(source: str, samples: int) -> Action:
    """The answer on which all of `samples` samples agree; without agreement no answer, which earns 0."""
    return Action(source, samples, "unanimous")


def single(source: str) -> Action:
    """One sample."""
    return Action(source, 1, "single")


def abstain() -> Action:
    """No sample and no answer: earns 0 and costs 0."""
    return Action(None, 0, "abstain")
