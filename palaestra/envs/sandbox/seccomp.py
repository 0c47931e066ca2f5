"""Which system calls a sandbox may make: one table, as a classic BPF program and as a Docker profile.

A call is allowed when the kernel's table up to a known version has it (`syscalls.py`) and `REFUSED` does not: so calls
that later kernels add are refused until somebody has looked at them. Refused calls fail with EPERM, unknown ones with
ENOSYS, which programs take for an older kernel.

The filter checks the architecture first, as numbers mean other calls elsewhere: a process that speaks another one
(32-bit code on x86_64) is killed; x32 calls are unknown.
"""

from __future__ import annotations

import functools
import platform
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.syscalls import NUMBERS

REFUSED: Mapping[str, str] = {
    "rings that make calls no filter sees": "io_uring_setup io_uring_enter io_uring_register",
    "code and probes in the kernel": "bpf perf_event_open userfaultfd",
    "keys, which are of no namespace": "keyctl add_key request_key",
    "mounts": "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr "
    "mount_setattr statmount listmount",
    "namespaces": "unshare setns",
    "other processes": "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd "
    "move_pages migrate_pages",
    "files by handle, past all folders": "name_to_handle_at open_by_handle_at",
    "another kernel, or parts of one": "kexec_load kexec_file_load init_module finit_module delete_module "
    "create_module query_module get_kernel_syms",
    "the machine": "reboot swapon swapoff acct quotactl quotactl_fd settimeofday clock_settime clock_adjtime adjtimex "
    "sethostname setdomainname syslog iopl ioperm vhangup fanotify_init lookup_dcookie nfsservctl",
    "memory that is not counted": "memfd_secret",
    "what outlives all processes, and so a restore": "shmget semget msgget",
    "what nobody uses, or the kernel never had": "modify_ldt uselib ustat sysfs _sysctl vserver security tuxcall "
    "afs_syscall getpmsg putpmsg epoll_ctl_old epoll_wait_old lsm_set_self_attr",
}
# Where no control group measures memory: what holds it without a process that could be measured or ended for it.
# (vmsplice keeps whole huge pages in a pipe.)
UNMEASURED = "memfd_create vmsplice"
# There, too: SOL_SOCKET's SO_{SND,RCV}BUF and their FORCE forms, which let a socket hold more than it is taken for.
_SOL_SOCKET, _BUFFERS = 1, (7, 8, 32, 33)
# glibc falls back to `clone`, whose flags a filter can read.
UNKNOWN = ("clone3",)
# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; CLONE_NEWTIME is of clone3 and unshare only.
NEW_NAMESPACES = 0x7E020000
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
FAMILIES = (_AF_UNIX, _AF_INET, _AF_INET6)

# Calls that also reach other processes of the same user, which the guest of a container is: place of an argument ->
# what it must be for the caller itself. That is 0; `setpriority` has PRIO_PROCESS (0) before it, `ioprio_set` has
# IOPRIO_WHO_PROCESS (1).
OWN_PROCESS: Mapping[str, Mapping[int, int]] = {
    "prlimit64": {0: 0},
    "setpriority": {0: 0, 1: 0},
    "ioprio_set": {0: 1, 1: 0},
    "sched_setaffinity": {0: 0},
    "sched_setscheduler": {0: 0},
    "sched_setparam": {0: 0},
    "sched_setattr": {0: 0},
}

# Commands of fcntl: F_SETLEASE keeps others, the guest among them, from a file; F_SETPIPE_SZ lets a few pipes take all
# that a user's pipes may hold, those outside among them. Up to the last that is known all others are allowed.
_SETLEASE, _SETPIPE, _LAST_COMMAND = 1024, 1031, 1040
# Containers have no user namespace of their own, and inotify has 128 instances for a user of all of them together. As
# unknown: programs then look at files again and again, as on kernels without it.
NOT_IN_CONTAINERS = ("inotify_init", "inotify_init1")

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, AUDIT_ARCH

_LOAD, _EQUAL, _AT_LEAST, _ANY, _RETURN, _JUMP = 0x20, 0x15, 0x35, 0x45, 0x06, 0x05
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
Code = list[tuple[int, int, int, int]]  # operation, jump if true, jump if false, operand


def refused(measured: bool = True) -> frozenset[str]:
    """Names of the calls that fail with EPERM, beside `clone` with new namespaces.

    Args:
        measured: does a control group count all memory.
    """
    groups = [*REFUSED.values(), *([] if measured else [UNMEASURED])]
    return frozenset(name for group in groups for name in group.split())


def allowed(measured: bool = True) -> list[str]:
    """Names of the calls that are allowed whatever their arguments."""
    return sorted(set(NUMBERS) - refused(measured) - {*UNKNOWN, *OWN_PROCESS, "clone", "fcntl", "socket", "socketpair"})


def bpf(architecture: str | None = None, measured: bool = True) -> bytes:
    """The filter as `struct sock_filter[]`, for bubblewrap's --seccomp or prctl.

    Args:
        architecture: "x86_64" or "aarch64"; None: this machine's.
        measured: as for `refused`.

    Raises:
        SandboxUnavailable: another architecture.
    """
    name = architecture or platform.machine()
    if name not in ARCHITECTURES:
        raise SandboxUnavailable(f"there is no system-call filter for {name}; there are: {', '.join(ARCHITECTURES)}")
    column, audit = ARCHITECTURES[name]
    verdicts = {number: _errno(_ENOSYS) for names in NUMBERS.values() if (number := names[column]) is not None}
    refusals, free = refused(measured), set(allowed(measured))
    for call, numbers in NUMBERS.items():
        if (number := numbers[column]) is not None and (call in free or call in refusals):
            verdicts[number] = _ALLOW if call in free else _errno(_EPERM)
    special: dict[int, Callable[[], Code]] = {}
    checks: dict[str, Callable[[], Code]] = {
        "clone": _clone,
        "fcntl": _command,
        "socket": _socket,
        "socketpair": _socket,
    }
    if not measured:
        checks["setsockopt"] = _option
    checks |= {call: functools.partial(_own_process, places) for call, places in OWN_PROCESS.items()}
    for call, check in checks.items():
        if (number := NUMBERS[call][column]) is not None:
            special[number] = check
    code: Code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR)]
    code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _errno(_ENOSYS))]
    code += _search([*_ranges(verdicts, special)])
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _errno(number: int) -> int:
    return _ERRNO | number


def _ranges(verdicts: Mapping[int, int], special: Mapping[int, Callable[[], Code]]) -> Iterator[tuple[int, Code]]:
    """Runs of numbers with the same answer: the first number, and the code that answers."""

    def answer(number: int) -> tuple[int, int]:
        return (number, 0) if number in special else (-1, verdicts.get(number, _errno(_ENOSYS)))

    numbers = range(max(verdicts) + 2)  # the last of them is unknown, and stands for all above
    for (one, verdict), run in groupby(numbers, key=answer):
        yield next(run), special[one]() if one >= 0 else [(_RETURN, 0, 0, verdict)]


def _search(runs: list[tuple[int, Code]]) -> Code:
    """A binary search for the run that the loaded number lies in: some eight comparisons for each call."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    low, high = _search(runs[:middle]), _search(runs[middle:])
    first = runs[middle][0]
    if len(low) < 256:
        return [(_AT_LEAST, len(low), 0, first), *low, *high]
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(low)), *low, *high]


def _low_word(argument: int) -> tuple[int, int, int, int]:
    return _LOAD, 0, 0, _ARGUMENTS + 8 * argument  # the kernel takes an int, so the high word does not matter


def _clone() -> Code:
    return [_low_word(0), (_ANY, 1, 0, NEW_NAMESPACES), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _errno(_EPERM))]


def _own_process(arguments: Mapping[int, int]) -> Code:
    """All of these arguments are what they must be; else EPERM."""
    code: Code = [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _errno(_EPERM))]
    for argument, value in reversed(list(arguments.items())):
        code = [_low_word(argument), (_EQUAL, 0, len(code) - 1, value), *code]
    return code


def _commands() -> list[int]:
    """Those of Linux's own that are allowed."""
    return [command for command in range(_SETLEASE, _LAST_COMMAND + 1) if command not in (_SETLEASE, _SETPIPE)]


def _command() -> Code:
    """Commands of fcntl."""
    return [
        _low_word(1),
        (_EQUAL, 2, 0, _SETLEASE),
        (_EQUAL, 1, 0, _SETPIPE),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _errno(_EPERM)),
    ]


def _option() -> Code:
    """Options of sockets, but not the sizes of their buffers."""
    refused: Code = [(_EQUAL, len(_BUFFERS) - at, 0, option) for at, option in enumerate(_BUFFERS)]
    return [
        _low_word(1),
        (_EQUAL, 0, len(_BUFFERS) + 1, _SOL_SOCKET),
        _low_word(2),
        *refused,
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _errno(_EPERM)),
    ]


def _socket() -> Code:
    """Local and internet sockets, and the netlink that lists network interfaces."""
    families = [(_EQUAL, len(FAMILIES) - at + 2, 0, family) for at, family in enumerate(FAMILIES)]
    return [
        _low_word(0),
        *families,
        (_EQUAL, 0, 3, _AF_NETLINK),
        _low_word(2),
        (_EQUAL, 0, 1, _NETLINK_ROUTE),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _errno(_EAFNOSUPPORT)),
    ]


def docker_profile() -> dict[str, object]:
    """The same as a seccomp profile of Docker's, for both architectures; `json.dumps` it for `security_opt`."""

    def rule(
        names: list[str], action: str, errno: int | None = None, *arguments: dict[str, object]
    ) -> dict[str, object]:
        return {
            "names": names,
            "action": action,
            **({} if errno is None else {"errnoRet": errno}),
            **({"args": list(arguments)} if arguments else {}),
        }

    def equals(index: int, value: int) -> dict[str, object]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    no_namespace = {"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    allow, refuse = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
    sockets = ["socket", "socketpair"]
    return {
        "defaultAction": refuse,
        "defaultErrnoRet": _ENOSYS,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": [
            rule(sorted({*allowed()} - {*NOT_IN_CONTAINERS}), allow),
            rule(sorted(refused()), refuse, _EPERM),
            *(
                rule([call], allow, None, *(equals(at, value) for at, value in places.items()))
                for call, places in OWN_PROCESS.items()
            ),
            *(
                rule([call], refuse, _EPERM, {"index": at, "value": value, "op": "SCMP_CMP_NE"})
                for call, places in OWN_PROCESS.items()
                for at, value in places.items()
            ),
            rule([*UNKNOWN, *NOT_IN_CONTAINERS], refuse, _ENOSYS),
            # What is compared has 64 bits, of which the kernel reads 32: so those allowed are named, not those refused.
            rule(["fcntl"], allow, None, {"index": 1, "value": _SETLEASE, "op": "SCMP_CMP_LT"}),
            *(rule(["fcntl"], allow, None, equals(1, command)) for command in _commands()),
            *(rule(["fcntl"], refuse, _EPERM, equals(1, command)) for command in (_SETLEASE, _SETPIPE)),
            rule(["clone"], allow, None, no_namespace),
            *(rule(sockets, allow, None, equals(0, family)) for family in FAMILIES),
            rule(sockets, allow, None, equals(0, _AF_NETLINK), equals(2, _NETLINK_ROUTE)),
        ],
    }
