"""How the guest locks itself in before anything else runs: work directory, users, capabilities, system calls.

Each step is done only where the host's configuration asks for it; a container engine does most of them itself.
"""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_SECUREBITS, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 28, 36, 38, 47
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096
_CLONE_NEWUSER = 0x10000000
_CAPSET_VERSION = 0x20080522
_LAST_CAPABILITY = 63
# What a guest keeps that runs as another user than its commands do: it becomes them (SETUID, SETGID), ends them (KILL),
# measures them (SYS_PTRACE, which reading another user's smaps asks for) and keeps the work directory in order whatever
# permissions they leave there (CHOWN, DAC_OVERRIDE, FOWNER). All of it in its own user namespace only.
_CHOWN, _DAC_OVERRIDE, _FOWNER, _KILL, _SETGID, _SETUID, _SYS_PTRACE = 0, 1, 3, 5, 6, 7, 19
KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _KILL, _SETGID, _SETUID, _SYS_PTRACE)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, first: int = 0, second: int = 0, what: str = "prctl") -> None:
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    _check(_LIBC.prctl(ctypes.c_int(option), *arguments), what)


def limit_mount(path: bytes, options: bytes) -> None:
    """Give a tmpfs its limits (`size=`, `nr_inodes=`, `mode=`): bubblewrap 0.8 itself cannot limit the inodes."""
    _check(
        _LIBC.mount(b"none", path, None, _MS_REMOUNT | _MS_NOSUID | _MS_NODEV, options), "limit " + os.fsdecode(path)
    )


def make_read_only(path: bytes) -> None:
    """Nobody in here writes below it any more, whatever its files allow."""
    what = "make read-only " + os.fsdecode(path)
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(_LIBC.mount(path, path, None, _MS_BIND, None), what)
    _check(_LIBC.mount(b"none", path, None, _MS_BIND | _MS_REMOUNT | flags, None), what)


def become(uid: int, gid: int) -> None:
    """Go into a user namespace of its own, as an ordinary user who has no say over the mounts of the one outside."""
    outside_uid, outside_gid = os.getuid(), os.getgid()
    _check(_LIBC.unshare(_CLONE_NEWUSER), "unshare the user namespace")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outside_uid} 1"),
        ("gid_map", f"{gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def refuse_namespaces(most: bytes) -> None:
    """No process in here makes another user namespace than these, whatever the system-call filter thinks."""
    with open("/proc/sys/user/max_user_namespaces", "wb") as file:
        file.write(most)


def limit_watches(instances: bytes) -> None:
    """No more inotify than these in here, of the few that a user has in all namespaces together."""
    for name, most in (("instances", instances), ("watches", b"%d" % (int(instances) * 1024))):
        with open("/proc/sys/user/max_inotify_" + name, "wb") as file:
            file.write(most)


def limit_tcp(most: int) -> None:
    """No TCP socket of this network namespace holds more bytes than these: the kernel lets them grow by themselves."""
    for name, part in (("tcp_rmem", most // 2), ("tcp_wmem", most // 2)):
        with open("/proc/sys/net/ipv4/" + name, "wb") as file:
            file.write(b"4096 %d %d" % (min(16384, part), part))


def drop_capabilities(kept: tuple[int, ...]) -> None:
    """Keep these capabilities only; what is started keeps none of them."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept:
            _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL beyond what this kernel knows
    _LIBC.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    bits = sum(1 << capability for capability in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable, twice
    _check(_LIBC.capset(header, data), "drop capabilities")


def filter_calls(program: bytes) -> None:
    """Load a classic BPF program over the system calls, for this process and all it starts."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, what="no new privileges")
    record = _Filter(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(record), what="load the system-call filter")


def hide() -> None:
    """Close /proc/<this>/{fd,mem,environ,...} to all others, and ptrace with it."""
    _prctl(_PR_SET_DUMPABLE, 0, what="become undumpable")


def die_with_parent() -> None:
    """Be killed when the parent dies. Set again after every change of user, which clears it."""
    _prctl(_PR_SET_PDEATHSIG, 9, what="die with the parent")


def adopt_orphans() -> None:
    """Become the parent of all orphans below, as pid 1 is by itself."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, what="adopt orphans")
