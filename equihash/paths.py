"""Where configurations and data lie, relative to the repository's root."""

from pathlib import Path

from equihash.errors import UserError, nearest

CONFIGS = Path("configs")
DATA = Path("data")


def check_task(task):
    """Raise a `UserError` unless there is configs/TASK/taskconfig.json."""
    if not (CONFIGS / task / "taskconfig.json").is_file():
        raise UserError(f"unknown task {task!r}{nearest(task, folders_with(CONFIGS, 'taskconfig.json'))}")


def folders_with(folder, name):
    """Names of the folders of `folder` that hold a file `name`."""
    return [path.parent.name for path in folder.glob(f"*/{name}")]


def labels_path(task, name):
    return DATA / "labels" / task / f"{name}.hdf5"
