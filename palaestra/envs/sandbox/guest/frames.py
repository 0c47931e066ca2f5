"""Frames: what host and guest say to each other over the guest's stdin and stdout.

A frame is 4 bytes of length (little endian), 16 bytes of tag, and the payload: fields of bytes, each with 4 bytes of
length before it; the first field says what the frame is. The tag is keyed BLAKE2b over the sender's name, the frame's
number and the payload. The key is made per session and is the first thing the host says, before anything else runs in
the sandbox; so a process that gets hold of the channel can end the session, but cannot speak for the guest, nor repeat
what it said.

    host -> guest                                          guest -> host
    config name=value ...                                  ready name=value ...
    ping                                                   pong
    exec cwd user timeout background env... -- argv...,    out BYTES *, err BYTES *,
        data BYTES *, end                                      done rc timed_out truncated seconds
    cancel   (while a command runs; else it means nothing)
    put path mode, data BYTES *, end                       end
    get path most                                          data BYTES *, end
    list path                                              data (kind size path) *, end
    snapshot most                                          data BYTES *, end digest
    restore digest, data BYTES *, end                      end

In place of any answer the guest may say `fail kind message`.
"""

from __future__ import annotations

__all__ = ["CHUNK", "HEADER", "HELLO", "KEY", "MAGIC", "TAG", "Forged", "Seal", "blake2b"]

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from hashlib import blake2b
else:
    try:  # not through hashlib where that can be helped: it loads OpenSSL, which takes longer than Python's own start
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b

KEY = 32
TAG = 16
HEADER = 4 + TAG
CHUNK = 256 * 1024
LARGEST = 4 * 1024 * 1024

# The first bytes of a session, unsealed: the guest says HELLO and its bytecode's magic number; the host answers with
# the length of the program and the program (see palaestra.envs.sandbox.program), then the key.
HELLO = b"palaestra-guest:"
MAGIC = 4


class Forged(Exception):
    """A frame that the other side cannot have sent, or that is damaged."""


class Seal:
    """Numbers and signs what one side sends.

    Args:
        key: the session's secret, KEY bytes.
        sender: b"host" or b"guest".
    """

    def __init__(self, key: bytes, sender: bytes) -> None:
        self._key, self._sender, self._number = key, sender, 0

    def _tag(self, payload: bytes) -> bytes:
        digest = blake2b(key=self._key, digest_size=TAG, person=self._sender)
        digest.update(self._number.to_bytes(8, "little"))
        digest.update(payload)
        self._number += 1
        return digest.digest()

    def seal(self, *fields: bytes) -> bytes:
        """The frame, ready to be written."""
        parts = []
        for field in fields:
            parts.append(len(field).to_bytes(4, "little"))
            parts.append(field)
        payload = b"".join(parts)
        return len(payload).to_bytes(4, "little") + self._tag(payload) + payload

    @staticmethod
    def size(header: bytes) -> int:
        """Bytes of payload that follow this header. Raises Forged where no frame is that large."""
        size = int.from_bytes(header[:4], "little")
        if size > LARGEST:
            raise Forged(f"a frame of {size} bytes")
        return size

    def open(self, header: bytes, payload: bytes) -> list[bytes]:
        """The fields of the next frame of this sender. Raises Forged."""
        number = self._number
        if self._tag(payload) != header[4:]:
            raise Forged(f"frame {number} does not carry this session's seal")
        fields, at = [], 0
        while at < len(payload):
            size = int.from_bytes(payload[at : at + 4], "little")
            fields.append(payload[at + 4 : at + 4 + size])
            at += 4 + size
        if at != len(payload) or not fields:
            raise Forged(f"frame {number} is damaged")
        return fields
