"""The engine's framing of a container's streams: unpacked whatever pieces it comes in; deadlines hold."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.sandbox.attached import AttachedWire

FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8)


def packed(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in frames)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30), size=st.integers(1, 100))
def test_both_streams_come_out_whole_wherever_the_bytes_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int], size: int
) -> None:
    here, there = socket.socketpair()
    wire, data, got = AttachedWire(here), packed(frames), b""
    wanted = b"".join(data for stream, data in frames if stream == 1)
    with there:
        for cut in [*cuts, len(data)]:
            there.sendall(data[:cut])
            data = data[cut:]
        there.shutdown(socket.SHUT_WR)
        while part := wire.read(size, time.monotonic() + 10):
            assert len(part) <= size
            got += part
    assert got == wanted
    assert wire.words() == b"".join(data for stream, data in frames if stream == 2).decode("utf-8", "replace")
    wire.close()


def test_an_answer_that_does_not_come_and_a_question_that_nobody_takes_run_into_their_deadlines() -> None:
    here, there = socket.socketpair()
    with there:
        wire = AttachedWire(here)
        with pytest.raises(TimeoutError):
            wire.read(1, time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            wire.write(bytes(50_000_000), time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            wire.write(b"x", time.monotonic() - 1)
        wire.close()


def test_a_stream_that_no_engine_has_is_an_error() -> None:
    here, there = socket.socketpair()
    with there:
        there.sendall(b"HTTP/1.1 500 nonsense")
        wire = AttachedWire(here)
        with pytest.raises(OSError, match="stream 72"):
            wire.read(1, time.monotonic() + 10)
        wire.close()
