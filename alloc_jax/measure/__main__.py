"""What is in a sample log: questions, sources, samples, accuracy, totals, what is missing, and whether allocation can pay.

python -m alloc_jax.measure inspect samples.jsonl
python -m alloc_jax.measure inspect --grader=math --skip_bad samples_gsm8k.jsonl
python -m alloc_jax.measure inspect builtin
"""

from collections.abc import Sequence

from absl import app, logging

from alloc_jax.logs.flags import define_reading_flags, read_flagged
from alloc_jax.logs.read import format_reading
from alloc_jax.measure.description import describe, format_description


def main(argv: Sequence[str]) -> None:
    if len(argv) < 3 or argv[1] != "inspect":
        raise app.UsageError("python -m alloc_jax.measure inspect FILE ...")
    logging.set_verbosity(logging.WARNING)  # JAX tells of devices that are not there
    try:
        reading = read_flagged(argv[2:])
        print(f"{format_reading(reading)}\n{format_description(describe(reading.log))}")
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"inspect: {error}") from error


if __name__ == "__main__":
    define_reading_flags()
    app.run(main)
