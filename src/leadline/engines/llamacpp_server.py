"""``python -m leadline.engines.llamacpp_server``: the embedded server under llama-server's options.

Runs llama.cpp's own C++ HTTP server in this process and nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal

import xllamacpp

_CACHE_TYPES = {
    name: getattr(xllamacpp.ggml_type, f"GGML_TYPE_{name.upper()}")
    for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
}


def main() -> None:
    options = _parser().parse_args()
    # Blocked before the server's threads are born, so that they inherit the mask and the
    # signal waits for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    _server = xllamacpp.Server(_params(options))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # An orderly end would first finish the running prompt, which can take minutes.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llamacpp_server", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, default=0, help="0: the model's own")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--kv-unified", action="store_true", help="all slots share the window")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--threads-batch", type=int)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--cache-type-k", choices=list(_CACHE_TYPES), default="f16")
    parser.add_argument("--cache-type-v", choices=list(_CACHE_TYPES), default="f16")
    return parser


def _params(options: argparse.Namespace) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.kv_unified = options.kv_unified
    params.n_batch = options.batch_size
    params.n_ubatch = options.ubatch_size
    params.cache_type_k = _CACHE_TYPES[options.cache_type_k]
    params.cache_type_v = _CACHE_TYPES[options.cache_type_v]
    if options.threads:
        params.cpuparams.n_threads = options.threads
    if options.threads_batch or options.threads:
        params.cpuparams_batch.n_threads = options.threads_batch or options.threads
    params.fit_params = False  # the length asked for, or a failure; never a silent change
    params.endpoint_metrics = True
    params.endpoint_props = True
    params.ui = False
    return params


if __name__ == "__main__":
    main()
