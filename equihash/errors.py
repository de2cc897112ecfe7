"""A user's mistake is one clear line and exit code 2, never a traceback."""

import difflib
import io
import os
import signal
import sys
import traceback
from pathlib import Path


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong and what to do."""


class Locked(UserError):
    """Another process is at the same work."""


class Damaged(UserError):
    """What a file holds is not what was written; never what the system says where it cannot be read."""


class Diverged(UserError):
    """Training came to values that are not finite."""


def nearest(name, names):
    """Return `" (did you mean 'x'?)"` for the closest of `names`, or the list of all of them."""
    names = sorted(map(str, names))
    lower = {each.lower(): each for each in names}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1)
    if close:
        return f" (did you mean {lower[close[0]]!r}?)"
    return f" (there is: {', '.join(names)})" if names else ""


def run(main, memory=""):
    """Run a script's `main`; what the user can mend becomes one line on stderr and exit code 2.

    Parameters
    ----------
    main : callable
    memory : str
        What makes it need less memory, for the message where there is too little.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have characters that the terminal cannot show
    try:
        main()
        print(end="", flush=True)  # here, where an error can be reported
    except UserError as error:
        sys.exit(_report(str(error), 2))
    except BrokenPipeError:  # nobody reads the output any more: `| head`
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # the disk is full, the folder read-only, ...
        if error.errno is None:  # not of the system: a mistake in a program
            raise
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{os.strerror(error.errno)} (in {_place(error)})"
        sys.exit(_report(f"{reason}; what was there before is undamaged", 2))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        sys.exit(_report(f"out of memory{memory and '; less is needed with '}{memory}", 2))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted", 130))
    finally:
        try:
            print(end="", flush=True)
        except OSError:  # Python would try again at its end, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# of PyTorch, on a GPU and on a CPU
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def _place(error):
    """The last line of this repository that an error passed through: "equihash/files.py, line 40"."""
    root = Path(__file__).parent.parent
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [frame for frame in frames if frame[0].is_relative_to(root) and "site-packages" not in frame[0].parts]
    path, line = own[-1] if own else frames[-1]
    return f"{path.relative_to(root) if own else path}, line {line}"


def _report(message, code):
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
