"""Serves the built-in reasoner: python -m alloc_jax.reasoner --size=large --port=8000"""

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_string("size", "large", "`small`, `large`, or a file of weights; also the model's name.")
flags.DEFINE_string("host", "127.0.0.1", "Where to listen.")
flags.DEFINE_integer("port", 8000, "Where to listen.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # JAX tells of devices that are not there
    try:
        import uvicorn

        from alloc_jax.reasoner.server import ReasonerServer
    except ImportError as error:
        raise SystemExit(f"reasoner: needs {error.name}: pip install 'alloc_jax[serve]'") from None
    try:
        server = ReasonerServer(FLAGS.size)
    except ValueError as error:
        raise SystemExit(f"reasoner: {error}") from None
    print(f"{FLAGS.size} at http://{FLAGS.host}:{FLAGS.port}/v1", flush=True)
    uvicorn.run(server.app(), host=FLAGS.host, port=FLAGS.port, log_level="warning")


if __name__ == "__main__":
    app.run(main)
