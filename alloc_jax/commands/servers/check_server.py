"""What an OpenAI-compatible server honours: seeds, several samples of a request, token counts, limits.

alloc check-server --base_url=http://127.0.0.1:8000/v1 --model=NAME
"""

from absl import flags

from alloc_jax.collect.check_server import check_server, format_findings
from alloc_jax.collect.collector import CollectConfig
from alloc_jax.collect.replies import Fault
from alloc_jax.jobs.console import show_progress

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("base_url", None, "Of the server, with its /v1.", required=True)
    flags.DEFINE_string("model", None, "As the server names it.", required=True)
    flags.DEFINE_string("prompt", "Write a random word, and then another random word.", "What is asked.")
    flags.DEFINE_integer("max_tokens", 24, "Of each answer.", lower_bound=3)
    flags.DEFINE_string("key_env", "OPENAI_API_KEY", "The environment variable that holds the server's key.")


def main(argv):
    show_progress()
    config = CollectConfig(base_url=FLAGS.base_url, key_env=FLAGS.key_env, timeout_s=120.0)
    try:
        print(format_findings(check_server(config, FLAGS.model, FLAGS.prompt, FLAGS.max_tokens)))
    except Fault as fault:
        raise ValueError(fault) from None
