"""The arguments of a class: their names, their defaults, and their bounds."""

import ast
import inspect
import textwrap
from functools import cache

REQUIRED = inspect.Parameter.empty  # the default of an argument that must be given,
FIXED = object()  # and of one that the class itself passes to its bases


def parameters(cls: type) -> dict:
    """Return {name: default} of the arguments of `cls(...)`, and of those that it passes to its bases."""
    found = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = [*inspect.signature(base.__init__).parameters.values()][1:]
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
        for name in _passed_to_bases(base.__init__):
            found.setdefault(name, FIXED)
    return found


@cache  # a table has many configurations of the same few classes
def _passed_to_bases(constructor):
    """List the keywords that a constructor passes to those of its bases; none if its source is not available."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, TypeError, SyntaxError):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"]
    return [keyword.arg for call in calls for keyword in call.keywords if keyword.arg]


def bounds_of(cls: type) -> dict:
    """Return {key: (least, most)} of the class attributes BOUNDS of `cls` and its bases; None is no bound.

    Keys within a dict are written key:sub. If a parameter's default does not tell its type, the least value does.
    """
    bounds = {}
    for base in reversed(cls.__mro__):
        bounds.update(vars(base).get("BOUNDS", {}))
    return bounds
