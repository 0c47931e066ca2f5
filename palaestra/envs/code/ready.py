"""Why an environment of this family cannot run on this machine, in one line: asked by `palaestra envs` and `doctor`."""

from __future__ import annotations

from palaestra.envs.code import humaneval as humaneval_data
from palaestra.envs.code import mbpp as mbpp_data
from palaestra.envs.data import data_folder
from palaestra.envs.errors import BadInput


def humaneval() -> str | None:
    """No data, or no sandbox."""
    return _no_data("humaneval", humaneval_data.FILE) or no_sandbox()


def mbpp() -> str | None:
    """No data, or no sandbox."""
    return _no_data("mbpp", mbpp_data.FILE) or no_sandbox()


def mbppsanitized() -> str | None:
    """No data, or no sandbox."""
    return _no_data("mbpp", mbpp_data.SANITIZED) or no_sandbox()


def codetasks() -> str | None:
    """No sandbox."""
    return no_sandbox()


def shell() -> str | None:
    """No sandbox."""
    return no_sandbox()


def _no_data(name: str, file: str) -> str | None:
    try:
        data_folder(name, file)
    except BadInput as error:
        return str(error)
    return None


def no_sandbox() -> str | None:
    """Why no sandbox can start here; it really starts one, once."""
    from palaestra.envs import sandbox

    try:
        sandbox.choose()
    except BadInput as error:
        return str(error)
    return None
