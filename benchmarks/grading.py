"""The graders on answers whose verdicts are known: agreement with people, with public logs, and beside math-verify alone.

    python benchmarks/grading.py --data=<a folder of outcome archives>

`corpus` are the cases of tests/logs/answers.jsonl, with verdicts by hand. The others are archives of public outcomes that
hold answers, reference answers and verdicts (--data; left out where there is none): each distinct (answer, reference,
verdict) is graded once and counts as often as it was drawn. `agreement` is the share of verdicts that are the log's own;
`math-verify` the same of `verify(parse(gold), parse(answer))` by itself, over the answers that "math" grades; `failed` are
responses that could not be graded. What `disagree` shows is the most frequent disagreement.
"""

import importlib.util
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from absl import app, flags

from alloc_jax.logs import Grader
from alloc_jax.logs.grade import METHODS
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "Folder of outcome archives (.npz) with `answer`, `gold` and `correct`.")
flags.DEFINE_integer(
    "most", 4000, "Distinct answers of an archive that are graded at most, the most frequent first.", lower_bound=1
)

CORPUS = Path(__file__).parents[1] / "tests/logs/answers.jsonl"
# archive -> the grader that reads its answers. Tasks with many right answers (puzzles, plans, proofs) have graders of their
# own, which no comparison with one reference answer replaces: they are not here.
ARCHIVES = {
    "zeroeval/gsm8k": "number",
    "openai_gsm8k/gsm8k_verifier": "number",
    "reasoning_gym/amc_aime_llama3b": "math",
    "small_math/qwen_math_rm100": "math",
    "small_math/math500_prm20": "math",
}
Cases = Counter[tuple[str, str, bool]]  # (response, gold, right) -> how often


def corpora() -> dict[tuple[str, str], Cases]:
    """The cases by their name and grader."""
    found: dict[tuple[str, str], Cases] = {}
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        found.setdefault(("corpus", case["grader"]), Counter())[case["response"], case["gold"], case["correct"]] += 1
    for name, method in ARCHIVES.items() if FLAGS.data else ():
        with np.load(Path(FLAGS.data) / f"{name}.npz") as archive:
            answer, gold, correct = archive["answer"], archive["gold"], archive["correct"]
        drawn = np.argwhere((correct != 255) & (answer != ""))
        cases = Counter((str(answer[i, a, s]), str(gold[i]), bool(correct[i, a, s])) for i, a, s in drawn)
        found[name, method] = Counter(dict(cases.most_common(FLAGS.most)))
    return found


def alone(cases: Cases) -> float:
    """The agreement of math-verify by itself; NaN where it is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        return float("nan")
    import math_verify

    logging.disable(logging.CRITICAL)
    same = 0
    for (response, gold, right), count in cases.items():
        try:
            said = math_verify.verify(
                math_verify.parse(f"${gold}$", parsing_timeout=None),
                math_verify.parse(response, parsing_timeout=None),
                timeout_seconds=None,
            )
        except Exception:  # counts as wrong, as in the library's own examples
            said = False
        same += count * (bool(said) == right)
    return same / cases.total()


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    rows, total = [], dict.fromkeys(METHODS, (0, 0))
    for (name, method), cases in corpora().items():
        start = time.perf_counter()
        with Grader(method) as grader:
            said = grader.grade([response for response, _, _ in cases], [gold for _, gold, _ in cases])
        seconds = time.perf_counter() - start
        against = Counter(
            {case: count for (case, count), got in zip(cases.items(), said, strict=True) if got.correct != case[2]}
        )
        failed = sum(count for count, got in zip(cases.values(), said, strict=True) if got.failure)
        total[method] = tuple(a + b for a, b in zip(total[method], (against.total(), cases.total()), strict=True))
        worst = repr(against.most_common(1)[0][0][:2])[:60] if against else ""
        agreement = 1 - against.total() / cases.total()
        beside = f"{alone(cases):.4f}" if method == "math" else ""
        cells = [f"{len(cases)}", f"{cases.total()}", f"{agreement:.4f}", beside, f"{failed}", f"{seconds:.1f}", worst]
        rows.append([name, method, *cells])
    print(
        markdown_table(
            ["answers", "grader", "distinct", "drawn", "agreement", "math-verify", "failed", "seconds", "disagree"],
            rows,
        )
    )
    for method, (against, drawn) in total.items():
        if drawn:
            print(f"{method}: {1 - against / drawn:.4f} of {drawn}")


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
