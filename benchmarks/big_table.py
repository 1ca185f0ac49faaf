"""A stored table of any length, generated and written row group by row group."""

import time
from pathlib import Path

import numpy as np
from instances import instance

from alloc_jax.actions import vote
from alloc_jax.measure import save_table
from alloc_jax.types import OutcomeTable


def write_big_table(path: Path, family: str, questions: int, actions: int, rows: int, seed: int) -> float:
    """Writes what `TableBlocks` reads of a table, with the header of a table, and returns a budget for it.

    Args:
      path: where to.
      family: of `instance`; every row group is drawn anew.
      questions: N.
      actions: K.
      rows: questions of a row group.
      seed: of the first row group; the next ones follow.
    """
    import pyarrow as pa
    import pyarrow.parquet

    def lists(values):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), actions)

    small = path.with_name("small.parquet")
    utility, cost, budget = instance(family, min(questions, rows), actions, seed)
    save_table(_table(utility[:2], cost[:2]), small)
    metadata = pyarrow.parquet.read_schema(small).metadata
    small.unlink()
    writer = None
    for number, start in enumerate(range(0, questions, rows)):
        utility, cost, _ = instance(family, min(rows, questions - start), actions, seed + number)
        made = {"utility": lists(utility), "cost": lists(cost), "valid": lists(np.ones(utility.shape, bool))}
        group = pa.table(made).replace_schema_metadata(metadata)
        writer = writer or pyarrow.parquet.ParquetWriter(path, group.schema, compression="zstd")
        writer.write_table(group, row_group_size=rows)
    writer.close()
    return budget


def kept_table(folder: Path, family: str, questions: int, actions: int, rows: int, seed: int) -> Path:
    """The file of such a table, which is written where it is not there yet."""
    path = folder / f"{family}-{questions}x{actions}-{seed}.parquet"
    if not path.exists():
        part = path.with_suffix(".part")
        write_big_table(part, family, questions, actions, rows, seed)
        part.rename(path)
    return path


def timed_read(path: Path, rows: int) -> float:
    """Seconds of the read that every pass has to make, and nothing else: the same columns in the same batches, no arrays made of them."""
    import pyarrow.parquet

    start = time.perf_counter()
    with pyarrow.parquet.ParquetFile(path) as file:
        for _ in file.iter_batches(rows, columns=["utility", "cost"]):
            pass
    return time.perf_counter() - start


def _table(utility: np.ndarray, cost: np.ndarray) -> OutcomeTable:
    count, actions = utility.shape
    return OutcomeTable(
        ids=tuple(map(str, range(count))),
        question=("",) * count,
        group=(None,) * count,
        actions=tuple(vote("model", 2**k) for k in range(actions)),
        resources=("samples",),
        units=("samples",),
        utility=utility,
        utility_se=np.zeros_like(utility),
        cost=cost,
        cost_se=np.zeros_like(cost),
        valid=np.ones(utility.shape, bool),
        successes=np.zeros(utility.shape, np.int32),
        samples=np.ones(utility.shape, np.int32),
    )


if __name__ == "__main__":
    print(__doc__)
