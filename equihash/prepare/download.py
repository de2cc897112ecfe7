"""Download published HDF5 files from the Hugging Face hub (optional: pip install huggingface_hub)."""

import os
import shutil
from pathlib import Path

from equihash.errors import UserError
from equihash.hdf5 import Hdf5File


def download_hdf5(repository: str, word: str, contents: dict[str, tuple], output: str) -> None:
    """Download the HDF5 file of a dataset repository whose path contains `word`, check it and move it to `output`.

    It must have the datasets `contents`: {name: (dtype, row shape)}. An interrupted download resumes: huggingface_hub
    keeps its part in a folder beside `output`. A `UserError` if huggingface_hub is missing, the download fails, or the
    repository does not have exactly one such file.
    """
    try:
        from huggingface_hub import hf_hub_download, list_repo_files
    except ImportError:
        raise UserError(
            f"downloading {repository} needs huggingface_hub: pip install huggingface_hub, or make the file yourself"
        ) from None
    folder = Path(output).parent / f".{Path(output).name}.download"
    try:
        there = list_repo_files(repository, repo_type="dataset")
        names = [name for name in there if name.lower().endswith((".hdf5", ".h5")) and word in name.lower()]
        if len(names) != 1:
            raise UserError(f"{repository} should hold one HDF5 file of {word!r}; it holds: {', '.join(there)}")
        path = hf_hub_download(repository, names[0], repo_type="dataset", local_dir=folder)
    except UserError:
        raise
    except Exception as error:  # the client's errors have no common base class
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{repository} cannot be downloaded: {reason}") from None
    with Hdf5File(path) as file:
        for name, (dtype, row_shape) in contents.items():
            dataset = file.dataset(name)
            if dataset is None or (dataset.shape[1:], dataset.dtype) != (row_shape, dtype):
                raise UserError(f"{names[0]} of {repository} does not hold `{name}` as it should; it is left at {path}")
    os.replace(path, output)
    shutil.rmtree(folder)
