"""Settings that are ignored, overridden, implicit, or wrong at long context."""

from __future__ import annotations

from collections.abc import Iterator

from leadline.catalog.engine_facts import load_facts, parse_release
from leadline.lint.command import Command, Given, Place
from leadline.lint.finding import Edit, Hit
from leadline.lint.rule import rule
from leadline.lint.rules.arguments import find_argument
from leadline.lint.table import list_rows
from leadline.units import GIB, show_bytes, show_tokens

_LONG = 131_072
_VERY_LONG = 1_000_000
_V1_DEFAULT = "0.8.0"
_SGLANG_REQUESTS = 2048
_SLOT_BYTES = 4
_VLLM_ROW_BYTES = 5
_PUBLIC = ("0.0.0.0", "::")  # noqa: S104 - what the rule looks for
_SECRETS = {"api_key": "VLLM_API_KEY", "hf_token": "HF_TOKEN"}


def is_served(command: Command) -> bool:
    """A server, as opposed to ``LLM()`` in a script."""
    return command.style != "python"


@rule("SET001", "note", "vllm 0.8.0 made V1 the default, which caches; vllm issue 54227")
def implicit_prefix_caching(command: Command, version: str) -> Iterator[Hit]:
    """Prefix caching is on though nothing says so.

    A repeated prompt is then answered from the cache, and times measured with it are not cold.
    Say it either way, so that a reader sees it.
    """
    name, off = _cache_switch(command)
    old = command.engine == "vllm" and parse_release(version) < parse_release(_V1_DEFAULT)
    if old or command.neuron or name in command.given or (command.window or 0) < _LONG:
        return
    yield Hit(
        f"{command.engine} caches prefixes unless told not to",
        command.entry or command.place,
        f"say {off} for cold measurements, or write down that the cache is wanted",
    )


def _cache_switch(command: Command) -> tuple[str, str]:
    if command.engine == "sglang":
        return "disable_radix_cache", "--disable-radix-cache"
    python = command.style != "cli"
    return "enable_prefix_caching", (
        "enable_prefix_caching=False" if python else "--no-enable-prefix-caching"
    )


@rule(
    "SET002", "warning", "vllm: input batch of max_num_seqs x max_model_len, 5 bytes, each worker"
)
def implicit_sequences(command: Command, version: str) -> Iterator[Hit]:
    """``max_num_seqs`` is left at its default in a deployment for very long prompts.

    The default is made for chat; every worker reserves host memory for that many whole windows,
    and graphs are captured for batches that can never fit.
    """
    window = command.window
    if command.engine != "vllm" or command.neuron or not window or window < _VERY_LONG:
        return
    sequences = command.number("max_num_seqs")
    if sequences is None and command.value("max_num_seqs") is None:
        at_default = window * 1024 * _VLLM_ROW_BYTES
        yield Hit(
            f"max_num_seqs is not set beside a window of {show_tokens(window)} tokens: up to 1,024 "
            f"rows, {show_bytes(at_default)} of host memory a worker",
            command.entry or command.place,
            "set max_num_seqs to the requests that fit at once; `leadline plan` counts them",
        )
    elif sequences and sequences * window * _VLLM_ROW_BYTES > 16 * GIB:
        rows = show_bytes(sequences * window * _VLLM_ROW_BYTES)
        yield Hit(
            f"{sequences} sequences of {show_tokens(window)} tokens: {rows} of host memory each",
            command.given["max_num_seqs"].place,
            "lower max_num_seqs to the requests that fit at once",
        )


@rule("SET003", "warning", "sglang 0.5.6 ReqToTokenPool: max_running_requests x context, 4 bytes")
def implicit_requests(command: Command, version: str) -> Iterator[Hit]:
    """``max_running_requests`` is left open at very long context.

    SGLang then keeps a table of at least 2,048 whole windows on every GPU, outside the static
    memory: the "Tried to allocate 80.04 GiB" of sglang issue 5755.
    """
    window = command.window
    if command.engine == "sglang" and window and window >= _VERY_LONG:
        if command.value("max_running_requests") is None:
            table = show_bytes(_SGLANG_REQUESTS * window * _SLOT_BYTES)
            yield Hit(
                f"max_running_requests is not set beside {show_tokens(window)} tokens: the request "
                f"table takes {table} of every GPU",
                command.entry or command.place,
                "set --max-running-requests to the requests that fit at once, for example 8",
            )


@rule("SET004", "warning", "sglang issues 5755, 6817; sglang 0.5.6 model_runner")
def graphs_off(command: Command, version: str) -> Iterator[Hit]:
    """Graphs are disabled where fewer requests would have been the cure.

    What runs out of memory at long context is the request table, not the graphs; without them
    every decode step pays for its launches.
    """
    window = command.window or 0
    names = ("disable_cuda_graph",) if command.engine == "sglang" else ("enforce_eager",)
    for name in names:
        given = command.given.get(name)
        if given and command.is_on(name) and window >= _VERY_LONG and not command.neuron:
            cure = "--max-running-requests and --cuda-graph-max-bs"
            if command.engine == "vllm":
                cure = "a smaller max_num_seqs"
            yield Hit(
                f"{given.text} at {show_tokens(window)} tokens gives up decode speed",
                given.place,
                f"take it out and set {cure}",
            )


@rule("SET005", "warning", "vllm issues 44286, 20904, 17924")
def beyond_training(command: Command, version: str) -> Iterator[Hit]:
    """The check of the trained context is switched off.

    Past the position table the result is NaN or an illegal memory access.
    """
    for name in ("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"):
        given = command.environment.get(name)
        if given and str(given.value).lower() in ("1", "true"):
            yield Hit(
                f"{name} is set", given.place, "unset it, or give a rope scaling in hf_overrides"
            )


@rule("SET006", "warning", "ROCm/vllm issue 539; vllm scheduler")
def huge_batches(command: Command, version: str) -> Iterator[Hit]:
    """A prefill step as long as the window.

    The activations of one step grow with it and take the memory of the KV cache.
    """
    tokens, window = command.number("max_num_batched_tokens"), command.window
    if tokens and window and tokens >= window >= _LONG and not command.neuron:
        yield Hit(
            f"max_num_batched_tokens {show_tokens(tokens)} takes the whole window in one step",
            command.given["max_num_batched_tokens"].place,
            "write 8192 to 32768: chunked prefill takes the prompt in pieces",
        )


@rule("SET007", "warning", "see the finding")
def ignored(command: Command, version: str) -> Iterator[Hit]:
    """Setting that the release accepts and does not look at."""
    for row in list_rows("ignored", command.engine, version):
        given = command.given.get(row["name"])
        if given and find_argument(command, given, version):
            yield Hit(
                f"{given.text} has no effect in {command.engine} {version}: {row['why']}",
                given.place,
                "take it out",
                source=row["source"],
                edits=(Edit(given.place.span, ""),) if given.place.span else (),
            )


@rule("SET008", "error", "see the finding")
def unmet(command: Command, version: str) -> Iterator[Hit]:
    """Setting without the one that it needs."""
    for row in list_rows("needs", command.engine, version):
        given = command.given.get(row["name"])
        if given and given.value is not False and row["other"] not in command.given:
            yield Hit(
                f"{given.text} needs {row['other']}: {row['effect']}",
                given.place,
                f"add --{row['other'].replace('_', '-')}",
                source=row["source"],
            )


@rule("SET009", "error", "sglang tokenizer_manager: input cut to the window, tail dropped")
def truncating(command: Command, version: str) -> Iterator[Hit]:
    """The server may cut a prompt that is too long and answer 200.

    A longer prompt then loses its tail without a word, and nothing shows it.
    """
    given = command.given.get("allow_auto_truncate")
    if given and command.is_on("allow_auto_truncate") and command.engine == "sglang":
        yield Hit(f"{given.text} lets the server cut prompts", given.place, "take it out")


@rule("SET010", "note", "vllm entrypoints/openai: usage.prompt_tokens_details; sglang ServerArgs")
def no_cache_report(command: Command, version: str) -> Iterator[Hit]:
    """Answers will not say how many tokens came from a cache.

    Without it no request can be proven cold.
    """
    name = {"vllm": "enable_prompt_tokens_details", "sglang": "enable_cache_report"}[command.engine]
    known = name in load_facts(command.engine).names("cli", version)
    if is_served(command) and known and not command.is_on(name) and not command.neuron:
        if (command.window or 0) >= _LONG:
            flag = "--" + name.replace("_", "-")
            yield Hit(f"{flag} is not set", command.entry or command.place, f"add {flag}")


@rule("SET011", "warning", "vllm and sglang: remote code of a model repository runs in the server")
def remote_code(command: Command, version: str) -> Iterator[Hit]:
    """Code of the model's repository will be run."""
    given = command.given.get("trust_remote_code")
    pinned = command.value("revision", "code_revision") is not None
    if given and command.is_on("trust_remote_code") and not pinned:
        yield Hit(
            "trust_remote_code without a pinned revision",
            given.place,
            "take it out, or pin --revision and --code-revision to a commit",
        )


@rule("SET012", "warning", "sglang ServerArgs: enable_metrics")
def no_metrics(command: Command, version: str) -> Iterator[Hit]:
    """SGLang serves no metrics unless told to."""
    if command.engine == "sglang" and is_served(command) and not command.is_on("enable_metrics"):
        entry = command.entry or command.place
        yield Hit("--enable-metrics is not set", entry, "add --enable-metrics", severity="note")


@rule("SET013", "error", "vllm ParallelConfig and sglang ServerArgs: heads are split evenly")
def uneven_heads(command: Command, version: str) -> Iterator[Hit]:
    """The tensor-parallel size does not divide the attention heads of a known model."""
    heads = _heads(command.model)
    if heads and command.tensor > 1 and heads % command.tensor and not command.neuron:
        fitting = [size for size in (2, 4, 8, 16, 32) if heads % size == 0]
        yield Hit(
            f"{heads} attention heads do not divide by {command.tensor}",
            _tensor(command).place,
            "write one of " + ", ".join(map(str, fitting)),
        )


@rule("SET014", "note", "a hub repository may change; Hugging Face documentation")
def unpinned_model(command: Command, version: str) -> Iterator[Hit]:
    """The model's revision is not pinned."""
    model = command.model or ""
    if (
        model.count("/") == 1
        and not model.startswith((".", "/"))
        and "revision" not in command.given
    ):
        entry = command.entry or command.place
        yield Hit(f"the revision of {model} is not pinned", entry, "add --revision COMMIT")


@rule("SET015", "warning", "vllm issues 26877, 22693: KV heads are copied to every rank")
def copied_heads(command: Command, version: str) -> Iterator[Hit]:
    """More ranks than KV heads: the cache holds every token more than once.

    Decode context parallelism splits the copies instead.
    """
    heads = _heads(command.model, "num_key_value_heads")
    split = command.number("decode_context_parallel_size", "dcp_size") or 1
    if heads and command.tensor > heads * split and not command.neuron:
        copies = command.tensor // heads
        yield Hit(
            f"{heads} KV heads on {command.tensor} ranks: every token is stored {copies} times",
            _tensor(command).place,
            f"set --decode-context-parallel-size to at most {copies}, or fewer ranks",
        )


@rule("SET016", "error", "vllm issues 26877, 26133: range 1 to tensor size / KV heads")
def too_much_context_parallelism(command: Command, version: str) -> Iterator[Hit]:
    """Decode context parallelism that finds no copies of KV heads to split."""
    heads = _heads(command.model, "num_key_value_heads")
    split = command.number("decode_context_parallel_size")
    if heads and split and split > max(1, command.tensor // heads):
        yield Hit(
            f"decode_context_parallel_size {split} with {heads} KV heads on {command.tensor} ranks",
            command.given["decode_context_parallel_size"].place,
            f"write at most {max(1, command.tensor // heads)}",
        )


def _tensor(command: Command) -> Given:
    names = ("tensor_parallel_size", "tp_size", "tp")
    return next(command.given[name] for name in names if name in command.given)


def _heads(model: str | None, key: str = "num_attention_heads") -> int | None:
    """Of a model of the catalog; None for compressed caches, which have no heads."""
    from leadline.catalog.reading import is_in_catalog, read_config

    if not model or not is_in_catalog(model):
        return None
    config = read_config(model)
    text = config.get("text_config") or config
    heads = None if text.get("kv_lora_rank") else text.get(key)
    return int(heads) if heads else None


# --- secrets and doors ----------------------------------------------------------------------


@rule("SEC001", "error", "vllm pull requests 52523, 53625 (start-up log)")
def secret_on_command_line(command: Command, version: str) -> Iterator[Hit]:
    """Secret where others can read it.

    Everybody on the machine sees a command line; the file goes to a repository; and releases
    before August 2026 print the key into their log.
    """
    for name, variable in _SECRETS.items():
        given = command.given.get(name)
        if given and given.value not in (None, True, False) and command.style == "cli":
            yield Hit(
                f"{given.text} puts a secret on the command line",
                given.name_place,
                f"take it out; give it as {variable} in the environment, from a file or a Secret",
            )
        elif given and isinstance(given.value, str) and not given.from_variable:
            yield Hit(f"{given.text} is written in the file", given.name_place, f"read {variable}")
    yield from _secret_variables(command)


def _secret_variables(command: Command) -> Iterator[Hit]:
    for name, given in command.environment.items():
        if not name.endswith(("TOKEN", "API_KEY", "SECRET", "PASSWORD", "SECRET_ACCESS_KEY")):
            continue
        if given.value and not given.from_variable:
            yield Hit(f"{name} stands in the file", given.place, _safe_way(command, name))
        elif command.container and command.container.kind == "docker" and given.value:
            yield Hit(
                f"the value of {name} will stand on docker's command line",
                given.place,
                _safe_way(command, name),
                severity="warning",
                edits=_pass_on(name, given),
            )


def _pass_on(name: str, given: Given) -> tuple[Edit, ...]:
    return (Edit(given.place.span, name),) if given.place.span else ()


def _safe_way(command: Command, name: str) -> str:
    kind = command.container.kind if command.container else "process"
    return {
        "docker": f"write -e {name}, which passes the caller's on, or --env-file of mode 0600",
        "compose": f"write `- {name}` alone, or env_file of mode 0600",
        "kubernetes": "use valueFrom: secretKeyRef",
        "values": "use valueFrom: secretKeyRef",
        "process": "export it outside of the file",
    }[kind]


@rule("SEC002", "warning", "a server without a key answers whoever reaches its port")
def open_door(command: Command, version: str) -> Iterator[Hit]:
    """The server listens on every network without a key."""
    guarded = "api_key" in command.given or "VLLM_API_KEY" in command.environment
    host = command.given.get("host")
    if host and str(host.value) in _PUBLIC and command.container is None and not guarded:
        yield Hit(
            f"{host.text} {host.value} answers everybody",
            host.place,
            "write 127.0.0.1, or set VLLM_API_KEY and a firewall",
            edits=_localhost(host.value_place),
        )
    for port in command.container.options.get("publish", ()) if command.container else ():
        text = str(port.value)
        if not guarded and text.count(":") == 1 and not text.startswith("$"):
            place = port.value_place or port.place
            yield Hit(
                f"port {text} is published on every network",
                port.place,
                f"write 127.0.0.1:{text}",
                edits=_local_port(place, text),
            )


def _localhost(place: Place | None) -> tuple[Edit, ...]:
    return (Edit(place.span, "127.0.0.1"),) if place and place.span else ()


def _local_port(place: Place, text: str) -> tuple[Edit, ...]:
    """Only where the text stands as it is, without quotes around it."""
    if place.span is None or place.span[1] - place.span[0] != len(text):
        return ()
    return (Edit(place.span, f"127.0.0.1:{text}"),)


@rule("SEC003", "error", "vllm envs.py: development endpoints, reset_prefix_cache among them")
def development_mode(command: Command, version: str) -> Iterator[Hit]:
    """Development endpoints are open to whoever reaches the port."""
    given = command.environment.get("VLLM_SERVER_DEV_MODE")
    local = str(command.value("host", default="")) in ("127.0.0.1", "localhost")
    if given and given.value not in ("0", None) and not local:
        yield Hit(
            "VLLM_SERVER_DEV_MODE is set and the server is not bound to 127.0.0.1",
            given.place,
            "unset it, or write --host 127.0.0.1",
        )


@rule("ENG001", "note", "the rules differ from release to release")
def version_unknown(command: Command, version: str) -> Iterator[Hit]:
    """The engine's version is not known."""
    if command.version_from == "newest":
        yield Hit(
            f"no version of {command.engine} is named; checked against {version}",
            command.entry or command.place,
            f"give --engine {command.engine}==VERSION, or pin the image's tag",
        )


@rule("ENG002", "note", "catalog/facts")
def version_too_new(command: Command, version: str) -> Iterator[Hit]:
    """The release is newer than the newest one that was read."""
    facts = load_facts(command.engine)
    if facts.is_newer_than_read(version):
        yield Hit(
            f"{command.engine} {version} was checked as {facts.newest}",
            command.entry or command.place,
            "update Leadline",
        )


RULES = (
    implicit_prefix_caching, implicit_sequences, implicit_requests, graphs_off, beyond_training,
    huge_batches, ignored, unmet, truncating, no_cache_report, remote_code, no_metrics,
    uneven_heads, unpinned_model, copied_heads, too_much_context_parallelism,
    secret_on_command_line, open_door, development_mode, version_unknown, version_too_new,
)  # fmt: skip
