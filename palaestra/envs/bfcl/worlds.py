"""The API classes of an entry as instances of our own, and calls made on them. No text is evaluated.

The package's runner keeps instances in module globals under the name of a model, and evaluates text. Here every episode
has its own instances, and a call is a method by its name with literal arguments. What the package's classes would let
an agent do to this process (loops without end, numbers of a million digits, folders inside themselves) ends in an error
that the agent is told.
"""

from __future__ import annotations

import copy
import decimal
import importlib
import inspect
import json
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, MethodType
from typing import Any

from palaestra.envs.bfcl.data import Entry, folder
from palaestra.envs.tools.calls import Call

Worlds = dict[str, Any]
"""API class name -> its instance."""

LINES = 200_000
"""Lines of Python that one call may run; the ground truth needs at most some 10,000."""

_lock = threading.RLock()  # the precision of mpmath is one number for the whole process


def build(entry: Entry) -> Worlds:
    """Fresh instances of the classes of an entry, sharing nothing with any others. Raises NotInstalled."""
    folder()
    from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING as modules
    from bfcl_eval.constants.executable_backend_config import STATELESS_CLASSES as stateless

    worlds: Worlds = {}
    for name in entry.classes:
        instance = getattr(importlib.import_module(modules[name]), name)()
        if name not in stateless:
            instance._load_scenario(copy.deepcopy(entry.config.get(name, {})), long_context=entry.long)
        worlds[name] = copy.deepcopy(instance)  # a long context puts records of the module itself into the instance
    return worlds


def owner(worlds: Worlds, function: str) -> MethodType | None:
    """The public method of this name; None if there is none."""
    if function.startswith("_"):
        return None
    methods = (getattr(instance, function, None) for instance in worlds.values())
    return next((method for method in methods if inspect.ismethod(method)), None)


def make(worlds: Worlds, call: Call) -> tuple[str, bool]:
    """Make a call.

    Returns:
        What it answers, as the package's runner writes it (errors too), and whether name and arguments were right.
    """
    method = owner(worlds, call.name)
    if method is None:
        return f"Error during execution: name '{call.name}' is not defined", False
    try:
        bound = inspect.signature(method).bind(*call.positional, **call.arguments).arguments
    except TypeError:
        return _refused(method, call), False
    if excess := _excess(call.name, bound):
        return f"Error during execution: {excess}", False
    try:
        with _lock:
            return _run(method, call), True
    except Exception as error:
        return f"Error during execution: {error}", True
    except _TooLong:
        return "Error during execution: the call took too long", False


def _refused(method: Callable[..., object], call: Call) -> str:
    """What Python itself says of arguments that do not fit, as the package's runner passes it on."""
    try:
        method(*call.positional, **call.arguments)  # does not begin: its signature refuses
    except TypeError as error:
        return f"Error during execution: {error}"
    raise AssertionError(f"{call} fits after all")


def _run(method: Callable[..., object], call: Call) -> str:
    import mpmath

    precision = mpmath.mp.dps
    try:
        with decimal.localcontext():
            return _limited(lambda: _text(method(*call.positional, **call.arguments)))
    finally:
        mpmath.mp.dps = precision


def _text(result: object) -> str:
    """As the package's runner writes results."""
    if isinstance(result, str):
        return result
    if type(result) is dict:
        try:
            return json.dumps(result)
        except Exception:
            return str(result)
    return str(result)


class _TooLong(BaseException):
    """Not an Exception: the classes catch those."""


def _limited(run: Callable[[], str]) -> str:
    """Run something of at most `LINES` lines of Python. Counted, not timed, so that a replay ends where it did."""
    left = LINES

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooLong()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return run()
    finally:
        sys.settrace(before)


_PRECISIONS = {"logarithm": "precision", "square_root": "precision", "round_number": "decimal_places"}


def _excess(function: str, arguments: Mapping[str, object]) -> str | None:
    """What one operation of the interpreter would spend minutes on: numbers of millions of digits."""
    if (name := _PRECISIONS.get(function)) and arguments.get(name) is not None:
        value = arguments[name]
        if not isinstance(value, int | float) or not abs(value) <= 1_000:
            return f"{name} must be a number of at most 1000"
    if function == "power":
        base, exponent = arguments["base"], arguments["exponent"]
        bits = base.bit_length() * exponent if isinstance(base, int) and isinstance(exponent, int) else 0
        if bits > 14_000 and base not in (1, -1):  # more digits than the interpreter prints
            return "the result is too large"
    return None


def named(worlds: Worlds, call: Call) -> dict[str, object]:
    """The arguments of a call by name, with the defaults of those left out; as they are where they do not fit."""
    method = owner(worlds, call.name)
    try:
        if method is None:
            raise TypeError(call.name)
        bound = inspect.signature(method).bind(*call.positional, **call.arguments)
    except TypeError:
        return {**{str(index): value for index, value in enumerate(call.positional)}, **call.arguments}
    bound.apply_defaults()
    return dict(bound.arguments)
