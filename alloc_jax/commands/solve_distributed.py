"""One budget for a stored table of any length: larger than memory, and shared by any number of processes.

    alloc solve-distributed --table=table.parquet --budget=3 --workdir=runs/plan
    alloc solve-distributed --table=table.parquet --budget=3 --workdir=runs/plan --launch=2
    alloc solve-distributed --table=table.parquet --budget=3 --workdir=runs/plan \\
        --num_processes=2 --process_id=0 --coordinator=10.0.0.1:7000        # and on the second machine --process_id=1

Each process reads its part of the row groups and writes plan-I-of-N.parquet, one action per question in the table's order;
process 0 writes summary.json and, after every pass, checkpoint.json, from which the same command goes on after a crash. The
coordinator listens on the given address alone. Expect two to four passes over the file; with several resources, five to fifteen.
"""

import os
import socket
import sys
import time
import traceback

import numpy as np
from absl import flags

from alloc_jax.jobs.console import plain_errors, show_progress
from alloc_jax.jobs.processes import end_with_parent, watch

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_list("table", None, "Parquet files of one stored table, in order.", required=True)
    flags.DEFINE_list(
        "budget",
        None,
        "Allowed mean cost per question, in the table's unit; one for each of its resources.",
        required=True,
    )
    flags.DEFINE_string("workdir", None, "Folder for the plan; an interrupted run in it is resumed.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace a finished run in the workdir.")
    flags.DEFINE_integer("rows", 2**18, "The most questions in a block; memory is a few blocks.", lower_bound=1)
    flags.DEFINE_integer("num_processes", 1, "Processes of the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", 0, "Which of them this is, from 0.", lower_bound=0)
    flags.DEFINE_string("coordinator", None, "Address and port of process 0.")
    flags.DEFINE_integer(
        "patience", 30, "Seconds without a sign of life after which a process counts as dead.", lower_bound=5
    )
    flags.DEFINE_integer("launch", 0, "Start so many processes here, on loopback, instead of one of several.")
    flags.DEFINE_bool("worker", False, "This is a process that another one watches.")


def main(argv):
    show_progress()
    if FLAGS.worker:
        return work()
    if FLAGS.num_processes > 1 and not FLAGS.coordinator:
        raise ValueError("several processes need --coordinator, the address and port of process 0")
    command = [sys.executable, "-m", "alloc_jax", "solve-distributed", *sys.argv[1:], "--worker"]
    if not FLAGS.launch:
        sys.exit(watch([command], sys.argv[0]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        here = f"--coordinator=127.0.0.1:{probe.getsockname()[1]}"
    count = f"--num_processes={FLAGS.launch}"
    commands = [[*command, count, f"--process_id={i}", here] for i in range(FLAGS.launch)]
    sys.exit(watch(commands, sys.argv[0]))


def work():
    end_with_parent()
    try:
        with plain_errors(sys.argv[0]):
            from alloc_jax.jobs.streaming import StreamConfig, solve_table
            from alloc_jax.solve.streaming.processes import Processes, SingleProcess

            peers: SingleProcess | Processes = SingleProcess()
            if FLAGS.num_processes > 1:
                peers = Processes(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, FLAGS.patience)
            config = StreamConfig(table=tuple(FLAGS.table), budget=tuple(map(float, FLAGS.budget)), rows=FLAGS.rows)
            found = solve_table(config, FLAGS.workdir, peers, FLAGS.overwrite)
    except BaseException as end:
        said = end.code if isinstance(end, SystemExit) else traceback.format_exc()
        if isinstance(said, str):
            print(said, file=sys.stderr, flush=True)
        # The runtime's own farewell would wait for the process that is gone, or for those that wait for this one. The others lose it with process 0.
        time.sleep(FLAGS.process_id == 0)
        os._exit(said if isinstance(said, int) else 1)
    if FLAGS.process_id == 0:
        multiplier, spend = (", ".join(f"{x:.7g}" for x in np.ravel(x)) for x in (found.multiplier, found.spend))
        print(
            f"{found.questions} questions, {found.passes} passes: multiplier {multiplier}, spend {spend}, "
            f"utility {found.utility:.7g} of at most {found.dual_value:.7g}, {found.status.name}\n\nplan: {FLAGS.workdir}"
        )
