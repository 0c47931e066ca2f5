"""The connection to a Ray cluster: made once a collection, and an unreachable one is told in one line."""

from __future__ import annotations

import importlib
import re
import signal
import socket
import subprocess
import sys
from typing import Any

from palaestra.envs import BadInput, MissingExtra, PalaestraError

_SECONDS = 5.0
_HEAD_SECONDS = 20
"""Within which a cluster's head says who it is, on a machine under load; an idle one takes hundredths of one."""
_SETTINGS = b"\x04"  # the type of the frame that both sides of HTTP/2 begin with (RFC 9113, 3.4)
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00" + _SETTINGS + b"\x00" * 5
_ASK = """
import signal, sys
import ray
signal.alarm(int(sys.argv[2]))  # ends this process wherever it is: Ray's own limits are minutes
try:
    from ray._raylet import GcsClient
except ImportError:  # a Ray that has it elsewhere: joining will tell
    sys.exit(0)
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    sys.exit(" ".join(str(error).split()) or type(error).__name__)
"""
"""Asks a cluster's head who it is, as `ray health-check` does."""


class Lost(PalaestraError):
    """The cluster has not got, or has no longer, what a collection needs."""


def load_ray() -> Any:
    """The package. Raises MissingExtra."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("Ray", "ray") from error


def connect(address: str) -> bool:
    """Connect this process to a cluster.

    Args:
        address: see `RayCluster`.

    Returns:
        True if the connection was made here, and is to be ended with `disconnect`; False if it was there.

    Raises:
        BadInput: it is no address, or no cluster answers there.
    """
    ray = load_ray()
    if address.startswith("ray://"):
        raise BadInput(
            f"--ray {address}: give HOST:PORT of the cluster's head (6379 as a rule) and run this on one of its "
            "machines, or with `ray job submit`"
        )
    named = re.fullmatch(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", address)
    if named is None and address not in ("auto", "local"):
        raise BadInput(f"--ray {address}: an address is HOST:PORT, auto or local")
    if ray.is_initialized():
        return False
    if named is not None:
        _answers(address, named[1].strip("[]"), int(named[2]))
        _is_head(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # of several kinds, by how far Ray came
        told = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"--ray {address}: cannot join this cluster: {told[:300]}") from error
    return True


def disconnect(own: bool) -> None:
    """End the connection, if it was made by `connect`."""
    if own:
        load_ray().shutdown()


def _answers(address: str, host: str, port: int) -> None:
    """Raise BadInput unless something answers there as a cluster's head does, which speaks HTTP/2.

    Joining what is none would take Ray minutes.
    """
    try:
        with _line(address, host, port) as line:
            line.sendall(_GREETING)
            first = line.recv(4)
    except TimeoutError:
        first = b""
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadInput(
            f"--ray {address}: no Ray cluster answers there ({why}); start one with `ray start --head`, or check the "
            "address"
        ) from None
    if first[3:] != _SETTINGS:
        raise BadInput(
            f"--ray {address}: what listens there is no Ray head; give the address that `ray start --head` printed"
        )


def _is_head(address: str) -> None:
    """Raise BadInput unless what speaks HTTP/2 there is a cluster's head, and not some other service.

    A process of its own asks: what Ray's C++ says meanwhile is not shown, and it can be ended.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, address, str(_HEAD_SECONDS)],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_HEAD_SECONDS + 120,  # importing Ray may take long, too
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"--ray {address}: Ray itself does not start in a process of its own") from None
    if asked.returncode == 0:
        return
    lines = asked.stderr.strip().splitlines()
    silent = asked.returncode == -signal.SIGALRM
    why = (
        f"it has not said within {_HEAD_SECONDS} s that it is one"
        if silent
        else lines[-1][:200].rstrip(" :")
        if lines
        else "it refuses"
    )
    raise BadInput(
        f"--ray {address}: what listens there is no Ray head ({why}); give the address that `ray start --head` printed"
    )


def _line(address: str, host: str, port: int) -> socket.socket:
    """A connection. Raises BadInput where nothing says yes or no in time; OSError, OverflowError where it says no."""
    try:
        return socket.create_connection((host, port), timeout=_SECONDS)
    except TimeoutError:
        raise BadInput(
            f"--ray {address}: does not answer in {_SECONDS:g} s; check the address, and that no firewall is between"
        ) from None
