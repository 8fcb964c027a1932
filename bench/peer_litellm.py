"""LiteLLM's proxy in front of the upstream: one worker, no database, a master key.

peer_litellm.py PORT UPSTREAM_PORT KEY FOLDER
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    port, upstream_port, key, folder = sys.argv[1:5]
    # JSON is YAML, too.
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                    "api_key": "none",
                },
            }
            for name in ("fast", "slow")
        ],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False, "set_verbose": False},
    }
    file = Path(folder) / "litellm.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [
        "--config",
        str(file),
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--num_workers",
        "1",
        "--telemetry",
        "False",
    ]
    program = str(Path(sys.executable).with_name("litellm"))
    os.execv(program, [program, *command])
