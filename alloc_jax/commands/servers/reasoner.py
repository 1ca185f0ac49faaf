"""Serves the built-in reasoner as an OpenAI-compatible server would: for trying things without a download or a key.

alloc reasoner --size=large --port=8000
"""

from absl import flags

from alloc_jax.jobs.console import show_progress

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("size", "large", "`small`, `large`, or a file of weights; also the model's name.")
    flags.DEFINE_string("host", "127.0.0.1", "Where to listen.")
    flags.DEFINE_integer("port", 8000, "Where to listen.")


def main(argv):
    show_progress()
    try:
        import uvicorn

        from alloc_jax.reasoner.server import ReasonerServer
    except ImportError as error:
        raise ImportError(f"needs {error.name}: pip install 'alloc_jax[serve]'") from None
    server = ReasonerServer(FLAGS.size)
    print(f"{FLAGS.size} at http://{FLAGS.host}:{FLAGS.port}/v1", flush=True)
    uvicorn.run(server.app(), host=FLAGS.host, port=FLAGS.port, log_level="warning")
