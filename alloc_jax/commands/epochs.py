"""Which questions deserve more epochs: an earlier run of a benchmark to the epochs of the next one.

    alloc epochs runs/first --grader=number --budget=4 --workdir=runs/second

For tools whose loop cannot be stopped, such as lm-evaluation-harness: epochs are 1, 2, 4, ... and WORKDIR/epochs-N.json
names the documents that get N, as `lm_eval run --samples` reads them.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from absl import flags

from alloc_jax.jobs.console import define_log_files, show_progress
from alloc_jax.logs.flags import define_reading_flags, read_flagged
from alloc_jax.report.tables import plain_table
from alloc_jax.serve.epochs import doubling_epochs, expected_variance

FLAGS = flags.FLAGS


def define_flags():
    define_log_files()
    define_reading_flags()
    flags.DEFINE_string("workdir", None, "Folder of the files.", required=True)
    flags.DEFINE_float("budget", None, "Mean epochs per question.", 1.0, required=True)
    flags.DEFINE_integer("most", 16, "Epochs of a question at most.", 1)


def main(argv):
    show_progress()
    log = read_flagged(FLAGS.log).log
    if len(log.sources) != 1:
        raise ValueError(f"epochs are of one model: the log has {', '.join(source.name for source in log.sources)}")
    places = [name.rpartition("/") for name in log.ids]
    if strange := [name for name, (task, _, at) in zip(log.ids, places, strict=True) if not (task and at.isdigit())]:
        raise ValueError(f"expected ids of the form task/document, as lm-eval's logs have, got {strange[0]!r}")
    outcomes = [correct[:count].tolist() for correct, count in zip(log.correct[:, 0], log.count[:, 0], strict=True)]
    variance = np.array(list(expected_variance(dict(zip(log.ids, outcomes, strict=True))).values()))
    epochs = doubling_epochs(variance, FLAGS.budget, FLAGS.most)
    folder = Path(FLAGS.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in np.unique(epochs).tolist():
        documents: dict[str, list[int]] = defaultdict(list)
        for (task, _, at), own in zip(places, epochs, strict=True):
            if own == number:
                documents[task].append(int(at))
        path = folder / f"epochs-{number}.json"
        path.write_text(json.dumps(documents))
        rows.append([f"{number}", f"{(epochs == number).sum()}", str(path)])
    print(plain_table(["epochs", "questions", "file"], rows))
    error, equal = (np.sqrt((variance / n).mean() / len(log)) for n in (epochs, epochs.mean()))
    print(
        f"{epochs.mean():.2f} epochs per question; standard error of the mean {error:.4f}, and {equal:.4f} of as many for all"
    )
