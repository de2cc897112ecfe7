"""A user's mistake: what is wrong, and what to run about it. `equihash.command_line` makes a line of it."""

import difflib
from collections.abc import Iterable


class Remedy:
    """What to run about an error, in terms of the package.

    Parameters
    ----------
    stage : str
        A function such as "encode_database", or "train": a key of `equihash.command_line.SCRIPTS`.
    of : Experiment, DatabaseFiles, Path or None
        What it is to be run on, where that is known.
    arguments
        Others than the defaults.
    """

    def __init__(self, stage: str, of: object = None, **arguments: object):
        self.stage, self.of, self.arguments = stage, of, arguments

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.stage} with {arguments}" if arguments else self.stage


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong, and what to do where there is no remedy.

    Parameters
    ----------
    message : str
    remedy : Remedy or None

    Attributes
    ----------
    message, remedy
    """

    def __init__(self, message: str, remedy: Remedy | None = None):
        super().__init__(message)
        self.message, self.remedy = message, remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}: run {self.remedy}"


class Locked(UserError):
    """Another process is at the same work."""


class Damaged(UserError):
    """What a file holds is not what was written; never what the system says where it cannot be read."""


class Diverged(UserError):
    """Training came to values that are not finite."""


class Conflict(UserError):
    """What is there was made with other values than those asked for."""


def nearest(name: object, names: Iterable) -> str:
    """Return `" (did you mean 'x'?)"` for the closest of `names`, or the list of all of them."""
    names = sorted(map(str, names))
    lower = {each.lower(): each for each in names}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1)
    if close:
        return f" (did you mean {lower[close[0]]!r}?)"
    return f" (there is: {', '.join(names)})" if names else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python or of PyTorch on a CPU or GPU, says that there is too little memory."""
    texts = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    of_pytorch = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return of_pytorch or isinstance(error, MemoryError)
