"""Runs a log through the gateway's decision core offline: what a stream would have been given, and whether it keeps its budget.

    alloc replay --policy=runs/main/policy --log=samples.jsonl --budget=3
    alloc replay --questions=2000 --late=0.5,1

Without --policy one is trained on a share of the log, in --resource, and the rest is replayed. The stream draws its
first half from all of those questions and its second half from the range --late of their difficulties (0 is the
easiest question, 1 the hardest), so that the difficulty shifts halfway; each question takes the first of its logged
samples. The paced multiplier is set beside the fixed one that the calibration found.
"""

from absl import flags

from alloc_jax import PolicyConfig, load_policy, measure, menu, read_log, train
from alloc_jax.jobs.console import show_progress
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.price_book import PriceBook
from alloc_jax.report.tables import markdown_table
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.planning.escalator import rules_beside
from alloc_jax.serve.replay import compare_paces, drifting, replay_stream
from alloc_jax.serve.traffic.recording import Recorder

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("log", "builtin", "Sample log, or `builtin`.")
    flags.DEFINE_string("policy", None, "Folder of a policy that has not seen the log; default: one is trained.")
    flags.DEFINE_string("source", "large/think", "The source whose votes a trained policy chooses among.")
    flags.DEFINE_string("resource", "samples", "What a trained policy is paid in.")
    flags.DEFINE_float("train_share", 0.5, "Share of the log that a policy is trained on.", 0.0, 1.0)
    flags.DEFINE_string("prices", None, "Price book (JSON), by the sources' names, for dollars.")
    flags.DEFINE_float("budget", 3.0, "Mean cost per question, in the policy's unit.")
    flags.DEFINE_integer("questions", 2000, "Length of the stream.", lower_bound=2)
    flags.DEFINE_list("late", ["0.5", "1"], "Where the second half comes from; 0,1 for a stream that does not drift.")
    flags.DEFINE_list("steps", ["0", "0.01", "0.03", "0.06", "0.1"], "Of the pace; 0 is the fixed multiplier.")
    flags.DEFINE_bool(
        "sequential", True, "Follow the escalation or stopping rules in the policy's folder, where there are any."
    )
    flags.DEFINE_string(
        "traffic", None, "File to record the decisions in, for `alloc traffic`; one pace then, the first of --steps."
    )
    flags.DEFINE_float("exploration", 0.0, "Share of the recorded decisions that is drawn evenly.", 0.0, 0.99)
    flags.DEFINE_string("candidate", None, "Folder of a policy that decides beside the recorded one.")
    flags.DEFINE_float("candidate_share", 0.0, "Share of the recorded decisions that are the candidate's.", 0.0, 0.99)
    flags.DEFINE_integer("seed", 0, "Of the split and the stream.")


def main(argv):
    show_progress()
    policy, log = _policy_and_log()
    late = tuple(map(float, FLAGS.late))
    if len(late) != 2:
        raise ValueError(f"--late is two numbers, got {FLAGS.late}")
    stopping = rules_beside(FLAGS.policy, policy) if FLAGS.policy and FLAGS.sequential else None
    book = PriceBook.load(FLAGS.prices) if FLAGS.prices else None
    meter = Meter(policy.resource, policy.unit, {model: book.price(model) for model in book.models} if book else {})
    if FLAGS.traffic:
        print(_recorded(policy, log, late, stopping, meter))
        return
    steps = map(float, FLAGS.steps)
    rows = compare_paces(policy, log, FLAGS.budget, FLAGS.questions, late, steps, FLAGS.seed, stopping, meter)
    header = ("step", "spend / budget", "first half", "second half", "multiplier, first to last", "accuracy")
    print(f"{FLAGS.questions} questions, budget {FLAGS.budget:g} {policy.unit}, second half from {late}\n")
    print(markdown_table(header, rows))


def _recorded(policy, log, late, stopping, meter) -> str:
    """Replay once, with every decision recorded; what came of it, in a line."""
    recorder = Recorder(
        DecisionLog(FLAGS.traffic),
        policy,
        exploration=FLAGS.exploration,
        candidate=load_policy(FLAGS.candidate) if FLAGS.candidate else None,
        share=FLAGS.candidate_share,
        rule=stopping.mark if stopping else None,
        texts=True,
    )
    rows = drifting(log, FLAGS.questions, late, FLAGS.seed)
    ran = replay_stream(
        policy,
        log,
        FLAGS.budget,
        rows=rows,
        step=float(FLAGS.steps[0]),
        stopping=stopping,
        meter=meter,
        recorder=recorder,
    )
    return (
        f"{FLAGS.questions} decisions in {FLAGS.traffic}: {ran.spend:.3f} {policy.unit} per question of {FLAGS.budget:g},"
        f" {100 * ran.correct.mean():.1f} % right"
    )


def _policy_and_log():
    log = read_log(FLAGS.log)
    if FLAGS.policy:
        return load_policy(FLAGS.policy), log
    learn, rest = log.split_questions((FLAGS.train_share, 1 - FLAGS.train_share), FLAGS.seed)
    actions = [action for action in menu(log) if action.source == FLAGS.source]
    return train(measure(learn, actions, FLAGS.resource), PolicyConfig(kind="value", seed=FLAGS.seed)), rest
