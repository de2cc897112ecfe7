"""Reading HDF5: damage, what the system refuses and the caller's own mistakes are three different things."""

import errno
import os

import h5py
import numpy as np
import pytest

from equihash import hdf5
from equihash.errors import Damaged, Remedy, UserError
from equihash.hdf5 import Hdf5File, create_hdf5, set_provenance


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.hdf5"
    with create_hdf5(path) as file:
        file["whole"] = np.arange(3000)
        file.create_dataset("packed", data=np.arange(3000), chunks=(100,), compression="gzip")
        set_provenance(file, {"a": 1})
    return path


def read_all(path):
    with Hdf5File(path, Remedy("make_it")) as file:
        whole, packed = file.dataset("whole"), file.dataset("packed")
        assert np.array_equal(packed.read(slice(100, 900)), np.arange(100, 900))
        assert np.array_equal(packed.read([3, 2000]), [3, 2000])
        assert np.array_equal(whole.map(), packed.map())
        assert file.provenance == {"a": 1} and file.attribute("none", 7) == 7 and file.dataset("none") is None
        assert whole.offset is not None and packed.offset is None


class Failing:
    """A file whose n-th read fails, as of a disk that breaks."""

    def __init__(self, path, failing, reads):
        self.raw, self.failing, self.reads = open(path, "rb", buffering=0), failing, reads
        self.seek, self.tell, self.fileno, self.close = self.raw.seek, self.raw.tell, self.raw.fileno, self.raw.close

    def readinto(self, buffer):
        self.reads.append(len(buffer))
        if len(self.reads) == self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.raw.readinto(buffer)


def test_a_read_that_fails_is_an_error_of_the_system(path, monkeypatch):
    """Every read in turn; nothing is called damage, and HDF5 does not crash."""
    reads = []
    monkeypatch.setattr(hdf5, "open", lambda *_, **__: Failing(path, 0, reads), raising=False)
    read_all(path)
    assert len(reads) > 5
    for failing in range(1, len(reads) + 1):
        monkeypatch.setattr(hdf5, "open", lambda *_, n=failing, **__: Failing(path, n, []), raising=False)
        with pytest.raises(OSError, match="Input/output error") as error:
            read_all(path)
        assert error.value.errno == errno.EIO and error.value.filename == str(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EMFILE])
def test_a_file_that_cannot_be_opened(path, monkeypatch, code):
    def refused(*_, **__):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(hdf5, "open", refused, raising=False)
    with pytest.raises(OSError) as error:
        read_all(path)
    assert error.value.errno == code and error.value.filename == str(path)


def test_the_system_stops_h5py_itself(path, monkeypatch):
    """It could not open a module of Python's that it needs."""

    def refused(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "ascii.py")

    monkeypatch.setattr(h5py, "File", refused)
    with pytest.raises(OSError, match="Too many open files"):
        read_all(path)


def test_a_file_system_without_locks_or_a_file_open_elsewhere(path):
    """HDF5's own locks are not asked for: a writer that holds one is no obstacle."""
    with h5py.File(path, "r+", locking=True):
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r", driver="stdio", locking=True)
        read_all(path)


def test_the_callers_mistake_is_its_own(path):
    for mistake in (AttributeError, TypeError, KeyError, ValueError):
        with pytest.raises(mistake, match="a typo"), Hdf5File(path):
            raise mistake("a typo")


def test_what_is_no_hdf5_or_missing(path, tmp_path):
    for content in (b"", b"text", path.read_bytes()[:3000]):
        (tmp_path / "cut.hdf5").write_bytes(content)
        with pytest.raises(Damaged, match="cut.hdf5 is damaged, or no HDF5 file .*: run make_it"):
            read_all(tmp_path / "cut.hdf5")
    for missing in (tmp_path / "none", path / "below", tmp_path):
        with pytest.raises(UserError, match="does not exist: run make_it"):
            read_all(missing)


def test_parts_in_other_files_are_refused(path, tmp_path):
    """A missing part of a virtual dataset would read as zeros."""
    layout = h5py.VirtualLayout((6000,), np.int64)
    layout[:3000] = h5py.VirtualSource(path, "whole", (3000,))
    with h5py.File(tmp_path / "links.hdf5", "w") as file:
        file["linked"] = h5py.ExternalLink("file.hdf5", "whole")
        file["dangling"] = h5py.ExternalLink("none.hdf5", "whole")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (10,), "i8", external=[("raw.bin", 0, 80)])
        file["soft"] = h5py.SoftLink("/nowhere")
    with Hdf5File(tmp_path / "links.hdf5") as file:
        for name in ("linked", "dangling", "virtual", "raw"):
            with pytest.raises(UserError, match=f"{name} lies in another file"):
                file.dataset(name)
        assert file.dataset("soft") is None


def test_what_claims_more_than_the_file_holds(tmp_path):
    with h5py.File(tmp_path / "hole.hdf5", "w") as file:
        file.create_dataset("chunked", (2**40,), "i8", chunks=(2**20,))
        file["text"] = ["a", "b"]
    with Hdf5File(tmp_path / "hole.hdf5") as file:
        for name in ("chunked", "text"):
            with pytest.raises(Damaged):
                file.dataset(name)
