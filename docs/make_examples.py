"""Render the examples anew: one successor for every file of the two kits we began with."""

from __future__ import annotations

from pathlib import Path

from leadline.render.bundle import Kind, render_service
from leadline.render.select import describe_services
from leadline.spec import read_campaign

EXAMPLES = Path(__file__).parent.parent / "examples"

# Campaign to what is kept of each of its deployments.
KEPT: dict[str, dict[str, tuple[Kind, ...]]] = {
    "scout/scout.yaml": {
        "vllm-2m": ("docker", "compose", "kubernetes", "python", "client", "helm"),
        "sglang-2m": ("docker", "kubernetes", "client"),
    },
    "llama33-neuron/llama33.yaml": {
        "16k": ("python",),
        "32k": ("python",),
        "64k": ("python", "shell", "docker", "kubernetes", "client"),
        "64k-batch1": ("python",),
        "64k-batch3": ("python",),
        "8k-prefix-caching": ("python",),
        "16k-prefix-caching": ("python",),
    },
}


def main() -> None:
    for file, deployments in KEPT.items():
        path = EXAMPLES / file
        campaign = read_campaign(path)
        for name, kinds in deployments.items():
            services, _ = describe_services(campaign, (name,), try_infeasible=False)
            for service in services:
                files = render_service(service, kinds, made_from=path.name, namespace="default")
                keep(path.parent / "rendered", files)


def keep(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            (folder / name).chmod(0o755)


if __name__ == "__main__":
    main()
