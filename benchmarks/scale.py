"""Tables larger than memory, many devices, many processes, and how far a sample's multiplier carries.

    python benchmarks/scale.py --parts=stream --questions=100000000 --folder=runs/scale
    python benchmarks/scale.py --parts=devices,processes,sample
    python benchmarks/scale.py --parts=day --samples=1000,10000,100000

`stream` writes a table row group by row group (6 GB at 1e8 questions of 8 actions; it stays in --folder for the next run),
reads it, and solves it: each pass stands beside merely reading the same columns, in the same process and the same batches. Peak memory is the
process's own, with Python, JAX and the compiler in it. `devices` solves a table in memory over simulated devices, with the same
number of questions on each; the devices share this machine's cores, so that the time a question is what should stay. `processes`
streams a table with as many questions in each process. Bytes are those of the all-reduces in the compiled program of one pass, and of the arrays
that processes gather. `learning` trains one policy and walks through the samples of one log on as many devices, where more devices cannot be
faster on the same cores, and should not be slower. `sample` applies the two multipliers and the weight that a sample of n questions gives to all the others. `day` measures
costs a question and prints what 1e10 questions a day come to.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from big_table import kept_table, timed_read
from day import day, rms, sampled
from harness import Counted, machine, measured, status
from instances import FAMILIES, instance
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.learn import PolicyConfig, train
from alloc_jax.logs import read_log
from alloc_jax.measure import TableBlocks, measure, menu
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.solve import prepare, solve
from alloc_jax.solve.mesh import on_mesh
from alloc_jax.solve.root_finding import evaluate_multiplier, extreme_bracket
from alloc_jax.solve.streaming.passes import TableBlock, read_ahead, respond_to, to_device
from alloc_jax.solve.streaming.processes import Processes, SingleProcess
from alloc_jax.solve.streaming.stream import solve_stream
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.types import AllocationProblem

PARTS = ("stream", "devices", "processes", "learning", "sample", "day")
SOME = 16  # blocks that are read ahead and in turn

FLAGS = flags.FLAGS
flags.DEFINE_list("parts", list(PARTS), f"What is measured: {', '.join(PARTS)}.")
flags.DEFINE_integer("questions", 10**6, "Questions of the streamed table.", lower_bound=1)
flags.DEFINE_integer("actions", 8, "Actions per question.", lower_bound=2)
flags.DEFINE_integer("rows", 2**18, "Questions of a block.", lower_bound=1)
flags.DEFINE_string("folder", None, "Where the streamed table is kept; none: a temporary folder.")
flags.DEFINE_enum("family", "smooth", FAMILIES, "Instances that are streamed and scaled.")
flags.DEFINE_integer("each", 2**19, "Questions of a device or process.", lower_bound=1)
flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Numbers of simulated devices.")
flags.DEFINE_list("processes", ["1", "2"], "Numbers of processes.")
flags.DEFINE_integer("population", 2**22, "Questions from which samples are drawn.", lower_bound=2)
flags.DEFINE_list("samples", ["1000", "10000", "100000", "1000000"], "Questions of a sample.")
flags.DEFINE_integer("draws", 20, "Samples of each size.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Seed of tables and samples.")
flags.DEFINE_string("worker", "", "What a process does that this script started.")


def stream(folder: Path) -> None:
    """Every pass over a table in a file, beside reading it."""
    path = table_in(folder)
    utility, cost, budget = instance(FLAGS.family, min(FLAGS.questions, FLAGS.rows), FLAGS.actions, FLAGS.seed)
    blocks = TableBlocks(path, rows=FLAGS.rows)
    before = status("VmHWM")
    # The first read brings the file into memory, where there is room.
    read = min(timed_read(path, FLAGS.rows) for _ in range(2))
    clock = [time.perf_counter()]
    seen = Counted(SingleProcess())
    found = solve_stream(blocks, budget, peers=seen, save=lambda _: clock.append(time.perf_counter()))
    solved = time.perf_counter()
    planned = sum(len(action) for action in found.plan(blocks))
    written = time.perf_counter()
    assert planned == FLAGS.questions

    def row(what, seconds):
        return [what, f"{seconds:.1f}", f"{1e9 * seconds / FLAGS.questions:.0f}", f"{seconds / read:.2f}"]

    rows = [row("reading alone", read)]
    rows += [row(f"pass {i}", end - start) for i, (start, end) in enumerate(pairwise(clock), 1)]
    rows += [row("the cut", solved - clock[-1]), row("the plan", written - solved)]
    block = to_device(AllocationProblem(utility, cost), 0, len(utility), None)
    for count in (1, 16):
        multipliers = np.linspace(0.5, 2, count, dtype=np.float32) * np.float32(found.multiplier)
        cell = measured(lambda m=multipliers: respond_to(block, m)[0], 5)
        rows.append([f"{count} multipliers, in memory", "", f"{1e9 * cell.best / len(utility):.0f}", ""])
    pause = read / FLAGS.questions * FLAGS.rows

    def respond(block):
        jax.block_until_ready(respond_to(block, multipliers)[0])

    def elsewhere(block):  # on a device that takes as long for a block as reading it does, and leaves these cores alone
        jax.block_until_ready(block.rows)
        time.sleep(pause)

    for where, use in (("16 multipliers", respond), ("a device as fast as reading", elsewhere)):
        for how in ("in turn", "ahead"):
            each = min(seconds_of_some(blocks, use, how == "ahead") for _ in range(3))
            rows.append([f"{where}, read {how}", "", f"{1e9 * each:.0f}", f"{each / (read / FLAGS.questions):.2f}"])
    print(
        f"{path.stat().st_size / 1e9:.2f} GB, {FLAGS.questions:g} questions, {found.status.name} in {found.passes} passes: "
        f"spend {found.spend:.9g} of {budget:.9g}, gap {found.mixed_gap:.1e} mixed, {found.gap:.1e} integral\n"
        f"peak memory {status('VmHWM') / 1e9:.2f} GB, of which {before / 1e9:.2f} before the first read; "
        f"{seen.most} bytes gathered from a process at most at once\n"
    )
    print(markdown_table(["what", "seconds", "ns per question", "x reading"], rows))


def seconds_of_some(blocks: TableBlocks, use: Callable[[TableBlock], None], ahead: bool) -> float:
    """Seconds a question, where the first blocks are read and used one after the other, or the next is read while one is used."""
    start, count, some = time.perf_counter(), 0, islice(blocks, SOME)
    moved = (to_device(problem, number, FLAGS.rows, None) for number, problem in enumerate(some))
    for block in read_ahead(some, to_device, None) if ahead else moved:
        use(block)
        count += block.questions
    return (time.perf_counter() - start) / count


def table_in(folder: Path) -> Path:
    return kept_table(folder, FLAGS.family, FLAGS.questions, FLAGS.actions, FLAGS.rows, FLAGS.seed)


def all_devices() -> Mesh:
    """The devices of this process in a row."""
    return jax.make_mesh((jax.device_count(),), ("questions",), axis_types=(jax.sharding.AxisType.Auto,))


def devices() -> list[str]:
    """One row: `solve` over the devices of this process, and what one pass says between them."""
    count, mesh = jax.device_count(), all_devices()
    utility, cost, budget = instance(FLAGS.family, count * FLAGS.each, FLAGS.actions, FLAGS.seed)
    prepared = prepare(AllocationProblem(utility, cost), mesh=mesh)
    cell = measured(lambda: solve(prepared, budget).multiplier, 5)
    one_pass = on_mesh(
        lambda prepared, multiplier: evaluate_multiplier(prepared, extreme_bracket(prepared), multiplier)[1].total,
        mesh,
        prepared.specs,
        out=P(),
    )
    text = jax.jit(one_pass).lower(prepared, jnp.float32(0.1)).compile().as_text()
    milliseconds, each = 1e3 * cell.best, 1e9 * cell.best / (count * FLAGS.each)
    return [f"{count} devices", f"{count * FLAGS.each}", f"{milliseconds:.0f}", f"{each:.1f}", f"{reduced_bytes(text)}"]


def learning() -> list[str]:
    """One row: a policy's training and the paths of samples drawn one at a time, over the devices of this process."""
    log, mesh = read_log("builtin"), all_devices()
    table = measure(log.select(range(2400)), menu(log, (1, 4, 8, 16)), "compute")
    trained = measured(lambda: train(table, PolicyConfig(epochs=5), mesh=mesh).weights, 2)
    walked = measured(lambda: sample_paths(log, "large/think", cap=16, mesh=mesh).utility, 2)
    return [f"{jax.device_count()}", *(f"{1e3 * cell.best:.0f}" for cell in (trained, walked))]


def reduced_bytes(program: str) -> int:
    """Bytes that the all-reduces of a compiled program put together on one device.

    >>> reduced_bytes("x = (f32[2,8]{1,0}, f32[2,8]{1,0}) all-reduce(a, b), channel_id=1")
    128
    """
    shapes = re.findall(r"= (.*?) all-reduce(?:-start)?\(", program)
    sizes = [(int(bits), dims) for shape in shapes for bits, dims in re.findall(r"[a-z](\d+)\[([\d,]*)\]", shape)]
    return sum(bits // 8 * int(np.prod([int(d) for d in dims.split(",") if d])) for bits, dims in sizes)


def processes(count: int, rank: int, coordinator: str) -> list[str] | None:
    """One row: a pass over blocks in memory in each of some processes; from process 0 only."""
    peers = Counted(Processes(coordinator, count, rank) if count > 1 else SingleProcess())
    problems = []
    for start in range(0, FLAGS.each, FLAGS.rows):
        utility, cost, budget = instance(
            FLAGS.family, min(FLAGS.rows, FLAGS.each - start), FLAGS.actions, FLAGS.seed + 1000 * rank + len(problems)
        )
        problems.append(AllocationProblem(utility, cost))
    budget = float(peers.gather(np.array(budget))[0])
    seconds = []
    for _ in range(3):  # the first compiles
        start = time.perf_counter()
        found = solve_stream(problems, budget, peers=peers)
        seconds.append((time.perf_counter() - start) / found.passes)
    total = count * FLAGS.each
    row = [f"{count} processes", f"{total}", f"{1e3 * min(seconds):.0f}", f"{1e9 * min(seconds) / total:.1f}"]
    return [*row, f"{peers.most}"] if rank == 0 else None


def started(worker: str, env: dict[str, str]) -> subprocess.Popen:
    """This script again, with its flags, to make one row."""
    argv = [sys.executable, *sys.argv, f"--worker={worker}"]
    return subprocess.Popen(argv, env={**os.environ, "JAX_PLATFORMS": "cpu", **env}, stdout=subprocess.PIPE, text=True)


def by_devices(what: str) -> list[list[str]]:
    """Rows of a worker, each from a process with so many devices."""
    flag = "--xla_force_host_platform_device_count"
    workers = (started(what, {"XLA_FLAGS": f"{flag}={count}"}) for count in FLAGS.devices if what in FLAGS.parts)
    return [worker.communicate()[0].strip().split("\t") for worker in workers]


def by_processes() -> list[list[str]]:
    """Rows of `processes`."""
    rows = []
    for count in map(int, FLAGS.processes if "processes" in FLAGS.parts else ()):
        at = f"127.0.0.1:{7100 + count}"
        group = [started(f"processes,{count},{rank},{at}", {}) for rank in range(count)]
        said = [one.communicate()[0].strip() for one in group]
        rows.append(said[0].splitlines()[-1].split("\t"))
    return rows


def sample() -> list[list[str]]:
    """What a sample's two multipliers and weight do to the questions it is drawn from."""
    rows, sizes = [], list(map(int, FLAGS.samples))
    for family in FAMILIES:
        for one in sampled(family, FLAGS.population, FLAGS.actions, sizes, FLAGS.draws, FLAGS.seed):
            row = [family, f"{one.size}", *(f"{100 * rms(x):.3f}" for x in (one.multiplier_errors, one.overspends))]
            row += [f"{100 * max(one.overspends):.3f}", f"{np.mean(one.losses):.0e}", f"{1e3 * one.seconds:.0f}"]
            rows.append(row)
    return rows


def main(argv):
    if len(argv) > 1 or set(FLAGS.parts) - set(PARTS):
        raise app.UsageError(f"unknown arguments {argv[1:]} or parts {FLAGS.parts}")
    if FLAGS.worker:
        what, *rest = FLAGS.worker.split(",")
        alone = {"devices": devices, "learning": learning}
        row = alone[what]() if what in alone else processes(int(rest[0]), int(rest[1]), rest[2])
        print(*(row or []), sep="\t", flush=True)
        return
    print(f"{machine()}; seed {FLAGS.seed}\n")
    if "stream" in FLAGS.parts:
        with tempfile.TemporaryDirectory() as temporary:
            stream(Path(FLAGS.folder or temporary))
    if rows := by_devices("devices") + by_processes():
        print()
        print(markdown_table(["what", "questions", "ms", "ns per question", "bytes per pass"], rows))
    if rows := by_devices("learning"):
        print()
        print(markdown_table(["devices", "training, ms", "paths, ms"], rows))
    if "sample" in FLAGS.parts:
        header = [
            "data",
            "sample",
            "multiplier error %",
            "overspend %",
            "worst overspend %",
            "loss at equal spend",
            "ms",
        ]
        print()
        print(markdown_table(header, sample()))
    if "day" in FLAGS.parts:
        sizes = [size for size in map(int, FLAGS.samples) if size < FLAGS.questions]
        with tempfile.TemporaryDirectory() as temporary:
            path = table_in(Path(FLAGS.folder or temporary))
            print()
            print(day(path, FLAGS.family, FLAGS.rows, FLAGS.actions, sizes, FLAGS.draws, FLAGS.seed))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
