"""The guest's program and configuration: what a backend sends into a sandbox it has just made.

A backend starts `python3 -I -S -c STUB` as pid 1 of whatever it isolates with, and speaks to its stdin and stdout. The
stub says which bytecode it reads; it gets the guest as bytecode where this Python writes the same, else as source. So
the guest in a sandbox is always this Palaestra's, whatever image it was made of.
"""

from __future__ import annotations

import functools
import importlib.util
import marshal
import resource
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from palaestra.envs.sandbox.guest.frames import HELLO, MAGIC
from palaestra.envs.sandbox.interface import MIB, Limits

PACKAGE = "palaestra.envs.sandbox.guest"
# Each module after those it imports.
MODULES = ("frames", "confine", "processes", "paths", "tar", "packer", "unpacker", "held", "commands", "main")

STUB = f"""
import marshal, os, sys
from _frozen_importlib_external import MAGIC_NUMBER
os.write(1, {HELLO!r} + MAGIC_NUMBER)
def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data
for name, code in marshal.loads(read(int.from_bytes(read(4), "little"))):
    module = sys.modules[name] = type(sys)(name)
    exec(code if not isinstance(code, str) else compile(code, name, "exec"), module.__dict__)
module.main()
"""

SPARE_MEMORY = 128 * MIB
"""Bytes that a control group may hold beside the commands' memory and the work directory's files.

The guest with what is on its way through it, and what commands can take before the guest, which looks again and again,
ends them. At the group's own limit the kernel would choose, and where page tables fill it, it may choose the guest.
"""


def scratch_sizes(limits: Limits) -> dict[str, int]:
    """Folders to write to that no snapshot holds, and their bytes: they count as memory, of which they are a part."""
    part = int(limits.memory) // 4
    return {"/tmp": min(part, int(limits.disk)), "/dev/shm": min(part, 64 * MIB)}


@functools.cache
def program(magic: bytes) -> bytes:
    """What the stub reads: length and modules, for a Python whose bytecode has this magic number."""
    compiled = magic == importlib.util.MAGIC_NUMBER
    modules: list[tuple[str, object]] = [(PACKAGE, "")]
    for name in MODULES:
        source = resources.files(PACKAGE).joinpath(f"{name}.py").read_text("utf-8")
        dotted = f"{PACKAGE}.{name}"
        modules.append((dotted, compile(source, dotted, "exec", dont_inherit=True) if compiled else source))
    packed = marshal.dumps(modules) if compiled else marshal.dumps(modules, 2)
    assert len(magic) == MAGIC
    return len(packed).to_bytes(4, "little") + packed


@dataclass
class Setup:
    """How a guest is to lock itself in; what a backend does by itself is left out.

    Attributes:
        limits: of the sandbox. `output` always holds; the others where `watch` and `rlimits` say so.
        work: the work directory's path inside.
        scratch: other folders that can be written, such as /tmp; `restore` empties them.
        watch: does the guest measure the memory of all processes and end them beyond `limits.memory`. Right where
            nothing outside does it, and beside a control group, which notices later but more surely.
        group: measure the memory by the control group that the guest finds itself in, which is the sandbox's own and
            does not count the work directory against `limits.memory`.
        sockets: bytes of memory that a socket counts as where `watch` holds, as no process has what lies in it; 0:
            none. Right where the network namespace is the sandbox's own, and nothing outside measures memory.
        descriptors: files that a process may have open; each can hold memory that no process is measured by.
        watches: instances of inotify, of which a user has few in all sandboxes and outside them together; None: not
            limited here. Needs a user namespace of the sandbox's own.
        nproc: may processes, and signals that wait, be limited per user: only where the user namespace is the
            sandbox's own, as the kernel counts all processes of a user together.
        mounts: tmpfs to limit: path and mount options.
        readonly: folders below which nothing is to be written; /proc/sys, whose files say otherwise.
        become: user and group id to become in a user namespace of one's own; None: stay.
        users: name -> user and group id that commands can run as; empty: as the guest itself. Needs a guest that is
            root in its user namespace.
        drop: drop all capabilities that are not needed.
        filter: a BPF program over system calls (palaestra.envs.sandbox.seccomp), or nothing.
        pdeath: be killed with the parent.
        orphans: adopt orphans; pid 1 does without.
        niceness: of commands.
    """

    limits: Limits
    work: str = "/work"
    scratch: Sequence[str] = ("/tmp", "/dev/shm")
    watch: bool = True
    group: bool = False
    sockets: int = 0
    descriptors: int = 1024
    watches: int | None = None
    nproc: bool = False
    mounts: Sequence[tuple[str, str]] = ()
    readonly: Sequence[str] = ()
    become: tuple[int, int] | None = None
    users: dict[str, tuple[int, int]] = field(default_factory=dict)
    drop: bool = False
    filter: bytes = b""
    pdeath: bool = False
    orphans: bool = False
    niceness: int = 0
    namespaces: int | None = None
    """User namespaces that may be made below, the guest's own of `become` counted; None: not limited here."""

    def rlimits(self) -> dict[int, int]:
        """Limits of each process."""
        limits = {
            resource.RLIMIT_CORE: 0,
            # Where mounts have a size, a full one is to say so, rather than kill; elsewhere this is all there is.
            resource.RLIMIT_FSIZE: int(self.limits.disk) + (int(self.limits.memory) if self.mounts else 0),
            resource.RLIMIT_NOFILE: self.descriptors,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        if self.watch:  # data, not address space: runtimes reserve far more of that than they use
            limits[resource.RLIMIT_DATA] = 2 * int(self.limits.memory)
        if self.nproc:
            limits[resource.RLIMIT_NPROC] = self.limits.pids
            limits[resource.RLIMIT_SIGPENDING] = 1024
        return limits

    def fields(self) -> list[bytes]:
        """The configuration as the guest reads it, in the order in which it is to be done."""
        lines: list[str] = [f"work={self.work}", *(f"scratch={folder}" for folder in self.scratch)]
        lines += [f"output={int(self.limits.output)}", f"nice={self.niceness}"]
        lines += [f"memory={int(self.limits.memory) if self.watch else 0}"]
        lines += ["group="] if self.group else []
        lines += [f"rlimit={number} {value}" for number, value in self.rlimits().items()]
        lines += [f"mount={path} {options}" for path, options in self.mounts]
        lines += [f"user={name} {uid} {gid}" for name, (uid, gid) in self.users.items()]
        lines += ["own="] if self.users else []
        lines += [f"namespaces={self.namespaces}"] if self.namespaces is not None else []
        lines += [f"watches={self.watches}"] if self.watches is not None else []
        lines += [f"sockets={self.sockets}"] if self.sockets else []
        lines += [f"readonly={folder}" for folder in self.readonly]
        lines += [f"become={self.become[0]} {self.become[1]}"] if self.become else []
        lines += ["orphans="] if self.orphans else []
        lines += ["oom=500"] if not self.users else []  # after its commands, before anything outside
        lines += ["pdeath="] if self.pdeath else []
        lines += ["drop="] if self.drop else []
        return [line.encode() for line in lines] + ([b"filter=" + self.filter] if self.filter else [])
