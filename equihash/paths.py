"""Where configurations and data lie, relative to the repository's root."""

import os
from pathlib import Path

from equihash.errors import UserError, nearest

CONFIGS = Path("configs")
DATA = Path("data")


def check_task(task: str) -> None:
    """Raise a `UserError` unless there is configs/TASK/taskconfig.json."""
    if not CONFIGS.is_dir():
        raise UserError(f"run it from the repository's folder (there is no {CONFIGS}/ here)")
    tasks = folders_with(CONFIGS, "taskconfig.json")
    if task not in tasks:
        raise UserError(f"unknown task {task!r}{nearest(task, tasks)}")


def check_model(task: str, model: str) -> None:
    """Raise a `UserError` unless there are configs/TASK/taskconfig.json and configs/TASK/MODEL/modelconfig.json."""
    check_task(task)
    models = folders_with(CONFIGS / task, "modelconfig.json")
    if model not in models:
        raise UserError(f"unknown model {model!r} for task {task}{nearest(model, models)}")


def folders_with(folder: Path, name: str) -> list[str]:
    """Names of the folders of `folder` that hold a file `name`."""
    return [path.parent.name for path in folder.glob(f"*/{name}")]


def split_and_database(which: str, database: str) -> str:
    """Name a database that is made of a split of the images: "10MDB" of the test split, else "valid_10MDB"."""
    return database if which == "test" else f"{which}_{database}"


def labels_path(task: str, name: str) -> Path:
    """Return the path of a database's labels.

    Raises
    ------
    UserError
        `name` cannot be the name of a file.
    """
    # 100 bytes leave room for what the names of files put around it
    if not name.isprintable() or "/" in name or name.startswith(".") or not 0 < len(os.fsencode(name)) <= 100:
        raise UserError(
            f"{name[:100]!r} cannot be the name of a database: it must be 1 to 100 bytes long, printable, without / "
            "and without a dot in front"
        )
    return DATA / "labels" / task / f"{name}.hdf5"
