"""log.jsonl: a JSON object for each step, with the averages of training and the in-training evaluations."""

import json
from pathlib import Path

from equihash.files import atomic


def write_log(path: Path, training_log: dict[int, dict], results: dict[str, dict[int, dict]]) -> None:
    """Write the whole log, atomically, so that it always agrees with the state beside it.

    `training_log` has the averages by step, `results` the evaluations of "train" and "valid" by step.
    """
    with atomic(path) as temporary, open(temporary, "w") as file:
        for step in sorted({*training_log, *results["train"], *results["valid"]}):
            line = {"step": step, **training_log.get(step, {})}
            line |= {which: found[step] for which, found in results.items() if step in found}
            file.write(json.dumps(line) + "\n")
