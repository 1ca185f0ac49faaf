"""Collects samples from any OpenAI-compatible server: questions and sources in, a journal and a sample log out.

    alloc collect --base_url=http://127.0.0.1:8000/v1 --questions=questions.jsonl --model=NAME \
        --samples=16 --grader=math --workdir=runs/collected
    alloc collect ... --sources=sources.json --prices=prices.json --max_usd=5

The workdir then holds journal.jsonl, which grows line by line and from which the same command goes on wherever it was
stopped, and samples.jsonl, the graded log that every other command reads. Several shards (--shard=1/4) have a workdir
each; `alloc_jax.read_log` reads their journals as one.
"""

import warnings
from pathlib import Path

from absl import flags

from alloc_jax import PriceBook, read_log, write_log
from alloc_jax.collect import CollectConfig, collect, load_recipes, parse_recipes, read_questions, suspicions
from alloc_jax.collect.questions import in_shard, parse_shard
from alloc_jax.collect.replies import Fault
from alloc_jax.jobs.console import show_progress
from alloc_jax.logs.grade import METHODS
from alloc_jax.options import define_options

FLAGS = flags.FLAGS

_CONFIG = (
    "base_url",
    "samples",
    "concurrency",
    "timeout_s",
    "retries",
    "max_wait_s",
    "max_usd",
    "max_tokens",
    "retry_refused",
    "key_env",
)


def define_flags():
    flags.DEFINE_string("workdir", None, "Folder of the journal and the log; may hold an earlier run's.", required=True)
    define_options(CollectConfig, *_CONFIG, "seed")
    flags.DEFINE_string("questions", None, "Questions in JSON lines, CSV or parquet.", required=True)
    flags.DEFINE_string("question_field", "question", "The field that holds the text.")
    flags.DEFINE_string("gold_field", "gold", "The field that holds the reference answer.")
    flags.DEFINE_string("id_field", "id", "The field that identifies a question.")
    flags.DEFINE_string("group_field", "group", "The field that groups questions.")
    flags.DEFINE_string("sources", None, "Recipes by name (JSON); else one source, the model.")
    flags.DEFINE_string("model", None, "As the server names it; where there are no --sources.")
    flags.DEFINE_integer(
        "max_completion", None, "Token limit of a sample; where there are no --sources.", lower_bound=1
    )
    flags.DEFINE_bool("send_seed", True, "Off for servers that refuse the field.")
    flags.DEFINE_string("shard", "1/1", "i/k: only the i-th of k parts of the questions.")
    flags.DEFINE_string("prices", None, "Price book (JSON), by the models' names.")
    flags.DEFINE_enum("grader", None, list(METHODS), "How answers are graded; without it the journal alone is written.")


def main(argv):
    show_progress()
    journal = Path(FLAGS.workdir) / "journal.jsonl"
    try:
        account = collect(_questions(), recipes := _recipes(), journal, _config(), _prices(recipes))
    except Fault as fault:
        raise SystemExit(f"alloc collect: {fault}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"alloc collect: stopped; the same command goes on from {journal}") from None
    dollars = f", ${account.usd:.4f}" if FLAGS.prices else ""
    print(f"{journal}: {account.samples} samples, {account.tokens:,.0f} tokens{dollars}")
    for what, count in account.failed.items():
        print(f"note: {count} requests failed: {what}")
    if account.unknown:
        print(f"note: {account.unknown} replies do not say their tokens")
    if account.averaged:
        print(f"note: {account.averaged} replies state the tokens of all their samples together")
    for note in suspicions(journal, recipes):
        print(f"note: {note}")
    if account.stopped:
        print(f"stopped by {account.stopped}")
    if FLAGS.grader:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said above
            log = read_log(journal, grader=FLAGS.grader)
        write_log(log, path := journal.with_name("samples.jsonl"))
        print(f"{path}: {len(log)} questions; accuracy of a sample {log.correct[log.sampled].mean():.3f}")


def _questions():
    names = {f"{name}_field": FLAGS[f"{name}_field"].value for name in ("id", "question", "gold", "group")}
    part, parts = parse_shard(FLAGS.shard)
    return [question for question in read_questions(FLAGS.questions, **names) if in_shard(question, part, parts)]


def _recipes():
    if (FLAGS.sources is None) == (FLAGS.model is None):
        raise ValueError("name either --sources or a --model")
    if FLAGS.sources:
        return load_recipes(FLAGS.sources)
    return parse_recipes({FLAGS.model: {"model": FLAGS.model, "max_tokens": FLAGS.max_completion}})


def _prices(recipes):
    if FLAGS.prices is None:
        return None
    book = PriceBook.load(FLAGS.prices)
    return {name: book.price(recipe.model) for name, recipe in recipes.items() if recipe.model in book.models}


def _config():
    return CollectConfig(**{name: FLAGS[name].value for name in _CONFIG}, seed=FLAGS.seed if FLAGS.send_seed else None)
