"""A user's mistake is one clear line and exit code 2, never a traceback."""

import difflib
import sys


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong and what to do."""


def nearest(name, names):
    """Return `" (did you mean 'x'?)"` for the closest of `names`, or the list of all of them."""
    names = sorted(map(str, names))
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there is: {', '.join(names)})" if names else ""


def run(main):
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.exit(_report(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted", 130))


def _report(message, code):
    print(f"error: {message}", file=sys.stderr)
    return code
