"""What made a file, kept in it, so that files which do not belong together are never mixed up.

There is no clock time in it: the same work makes the same bytes. Versions are recorded and compared by nobody.
"""

from importlib.metadata import version
from pathlib import Path

import equihash
from equihash.errors import Remedy, UserError


def provenance(**work: object) -> dict:
    """Return `work` with the versions of this product and of the libraries that decide about results."""
    libraries = {name: version(name) for name in ("torch", "numpy", "h5py")}
    return {"version": equihash.__version__, "libraries": libraries, **work}


def work_of(experiment, config: dict, device, precision) -> dict:
    """What every file that a network has a part in says: a dict for `provenance`."""
    return {
        "task": experiment.task,
        "model": experiment.model,
        "variant": experiment.variant,
        "name": config["name"],
        "config": config,
        "device": device.type,
        "precision": str(precision).removeprefix("torch."),
    }


def check_provenance(path: Path, found: dict, expected: dict, remedy: Remedy | None) -> None:
    """Refuse a file that something else made than what is there now.

    Parameters
    ----------
    path : Path
    found : dict
        The file's provenance; what it does not say (files in the published format say nothing) is not checked.
    expected : dict of str to (value, str)
        What it must say, and where that comes from.
    remedy : Remedy
        What makes the file again.

    Raises
    ------
    UserError
        It names both sides.
    """
    for key, (value, source) in expected.items():
        if found.get(key, value) != value:
            at = f" (step {found['step']})" if key == "weights" and "step" in found else ""
            why = {"weights": ": training went on", "labels": ": the labels were made again"}.get(key, "")
            raise UserError(f"{path} is of {key} {found[key]}{at}, {source} of {value}{why}", remedy)
