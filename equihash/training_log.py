"""log.jsonl: a JSON object for each step, with the averages of training and the in-training evaluations."""

import json

from equihash.files import atomic


def write_log(path, training_log, results):
    """Write the whole log, atomically, so that it always agrees with the state beside it.

    Parameters
    ----------
    path : Path
    training_log : dict of step to dict
    results : {"train": dict of step to dict, "valid": dict of step to dict}
    """
    with atomic(path) as temporary, open(temporary, "w") as file:
        for step in sorted({*training_log, *results["train"], *results["valid"]}):
            line = {"step": step, **training_log.get(step, {})}
            line |= {which: found[step] for which, found in results.items() if step in found}
            file.write(json.dumps(line) + "\n")
