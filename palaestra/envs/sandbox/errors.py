"""What can go wrong with a sandbox, each with a type of its own.

`BadInput`s are for the person who asked (an image that is not there, a path outside the work directory). `SandboxDied`
is a fault: whatever ran inside is not to blame, the episode is run again. What the *code* inside does wrong is none of
these: it is an `ExecResult`.
"""

from __future__ import annotations

from palaestra.envs.errors import BadInput, EnvFault


class SandboxUnavailable(BadInput):
    """This backend cannot start here. Says why and what to install."""


class ImageMissing(BadInput):
    """The container image is not on the engine. Names it and the command that builds it."""


class OutsideWork(BadInput):
    """A path that is, or leads through a link, outside the work directory."""


class NotAFile(BadInput):
    """The path does not exist, or is no regular file (a folder, a device, a pipe)."""


class TooLarge(BadInput):
    """A file beyond `Limits.file`, or more than the work directory can hold."""


class BinaryOutput(BadInput):
    """Text was asked for, and the bytes are not UTF-8. Names the stream or file and the first bad byte."""


class SandboxDied(EnvFault):
    """The sandbox, its agent or the engine is gone, or speaks nonsense. Never the episode's doing, never a reward."""
