"""Count the parameters of every catalog model as transformers builds it, on the meta device.

Needs torch and transformers, which Leadline does not: run it in an environment of its own and give
the file that the planner's test compares with:

    python benchmarks/record_parameters.py tests/plan/data/meta_parameters.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

CATALOG = Path(__file__).parents[1] / "src" / "leadline" / "catalog" / "models"


def main() -> None:
    counts = {}
    for path in sorted(CATALOG.glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        # Trimmed image configs would be filled up with transformers' defaults: text only.
        if (
            config.get("model_type") in transformers.CONFIG_MAPPING
            and "vision_config" not in config
        ):
            counts[config["_name"]] = count_parameters(config)
    source = f"transformers {transformers.__version__}, AutoModelForCausalLM on the meta device"
    document = {"source": source, "parameters": counts}
    Path(sys.argv[1]).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def count_parameters(config: dict[str, Any]) -> int:
    """Parameters that are stored, tied ones once."""
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    read = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(plain)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(read)
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
