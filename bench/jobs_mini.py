"""`python -m bench.jobs_mini`: mini-swe-agent as it comes, a thread for each job.

It runs in an environment of its own, so it imports nothing of this project but the meter.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import jobs_meter
from bench.jobs_meter import Meter


def do_one(asked: dict[str, Any]) -> None:
    """One job in a folder of its own."""
    agents = importlib.import_module("minisweagent.agents.default")
    models = importlib.import_module("minisweagent.models.litellm_model")
    environments = importlib.import_module("minisweagent.environments.local")
    with tempfile.TemporaryDirectory(prefix="ff-bench-") as name:
        jobs_meter.write_files(Path(name))
        model = models.LitellmModel(
            model_name=f"anthropic/{asked['model']}",
            model_kwargs={"api_base": asked["url"], "api_key": "rehearsal", "max_tokens": 16_000},
            set_cache_control="default_end",
            cost_tracking="ignore_errors",
        )
        agent = agents.DefaultAgent(
            model,
            environments.LocalEnvironment(cwd=name),
            system_template="You are a helpful assistant.",
            instance_template="{{task}}",
            output_path=Path(name).with_suffix(".json"),
        )
        ended = agent.run(asked["prompt"])
        Path(name).with_suffix(".json").unlink()
        assert ended["exit_status"] == "Submitted", ended
        assert agent.n_calls == jobs_meter.TURNS, agent.n_calls
        jobs_meter.check(Path(name))


def work(asked: dict[str, Any], meter: Meter) -> None:
    with ThreadPoolExecutor(asked["jobs"]) as pool:
        do_one(asked)
        meter.started()
        for each in [pool.submit(do_one, asked) for _ in range(asked["jobs"])]:
            each.result()
        meter.done()


if __name__ == "__main__":
    os.environ["MSWEA_SILENT_STARTUP"] = "1"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    jobs_meter.run(work)
