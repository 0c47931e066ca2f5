"""The system-call filter, run by an interpreter of its own kind, for both architectures."""

from __future__ import annotations

import json
import struct

import pytest

from palaestra.envs.sandbox import seccomp
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.syscalls import NUMBERS

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = (0x00050000 | number for number in (1, 38, 97))
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}


def verdict(program: bytes, number: int, *arguments: int, audit: int) -> int:
    """What the kernel would answer: classic BPF over struct seccomp_data, little endian."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *(list(arguments) + [0] * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = at = 0
    while True:
        operation, true, false, operand = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif operation == 0x06:
            return operand
        elif operation == 0x05:
            at += operand
        else:
            holds = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[operation]
            at += true if holds else false


@pytest.fixture(params=["x86_64", "aarch64"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(architecture: str, call: str, *arguments: int, measured: bool = True) -> int:
    number = NUMBERS[call][COLUMN[architecture]]
    assert number is not None
    program = seccomp.bpf(architecture, measured=measured)
    return verdict(program, number, *arguments, audit=AUDIT[architecture])


def test_every_known_call_gets_the_answer_of_the_table(architecture: str) -> None:
    program, refused, free = seccomp.bpf(architecture), seccomp.refused(), set(seccomp.allowed())
    checked = {*seccomp.OWN_PROCESS, "clone", "fcntl", "socket", "socketpair"}
    seen = 0
    for name, numbers in NUMBERS.items():
        number = numbers[COLUMN[architecture]]
        if number is None or name in checked:
            continue
        seen += 1
        expected = ENOSYS if name == "clone3" else EPERM if name in refused else ALLOW
        assert (name in free) == (expected == ALLOW), name
        assert verdict(program, number, audit=AUDIT[architecture]) == expected, name
    assert seen > 300


def test_the_calls_of_known_escapes_are_refused(architecture: str) -> None:
    for name in (
        "io_uring_setup", "bpf", "keyctl", "add_key", "request_key", "userfaultfd", "mount", "umount2", "pivot_root",
        "fsopen", "open_tree", "move_mount", "unshare", "setns", "ptrace", "process_vm_readv", "process_vm_writev",
        "kexec_load", "init_module", "finit_module", "perf_event_open", "open_by_handle_at", "name_to_handle_at",
        "swapon", "reboot", "acct", "quotactl", "settimeofday", "memfd_secret",
    ):  # fmt: skip
        assert ask(architecture, name) == EPERM, name


def test_calls_of_later_kernels_are_unknown(architecture: str) -> None:
    program = seccomp.bpf(architecture)
    known = {numbers[COLUMN[architecture]] for numbers in NUMBERS.values()}
    for number in [number for number in range(2000) if number not in known]:
        assert verdict(program, number, audit=AUDIT[architecture]) == ENOSYS, number


def test_another_architecture_is_killed_and_x32_is_unknown() -> None:
    for architecture, other in (("x86_64", 0x40000003), ("aarch64", 0x40000028), ("x86_64", AUDIT["aarch64"])):
        assert verdict(seccomp.bpf(architecture), 0, audit=other) == KILL
    assert verdict(seccomp.bpf("x86_64"), 0x40000000 + 1, audit=AUDIT["x86_64"]) == ENOSYS


def test_clone_makes_threads_and_processes_but_no_namespaces(architecture: str) -> None:
    assert ask(architecture, "clone", 17) == ALLOW  # SIGCHLD: fork
    assert ask(architecture, "clone", 0x003D0F00) == ALLOW  # a thread of glibc's
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(architecture, "clone", flag | 17) == EPERM, hex(flag)
    assert ask(architecture, "clone3") == ENOSYS


def test_sockets_are_local_or_internet(architecture: str) -> None:
    for family in (1, 2, 10):
        assert ask(architecture, "socket", family, 1, 0) == ALLOW
    assert ask(architecture, "socket", 16, 3, 0) == ALLOW  # NETLINK_ROUTE
    assert ask(architecture, "socket", 16, 3, 9) == EAFNOSUPPORT  # NETLINK_AUDIT
    for family in (17, 31, 38, 40, 44):  # packet, bluetooth, alg, vsock, xdp
        assert ask(architecture, "socket", family, 1, 0) == EAFNOSUPPORT
    # The kernel reads an int: what stands above it must not make another family of it.
    assert ask(architecture, "socket", (1 << 32) | 40, 1, 0) == EAFNOSUPPORT


def test_limits_and_priorities_only_of_oneself(architecture: str) -> None:
    assert ask(architecture, "prlimit64", 0, 7) == ALLOW
    assert ask(architecture, "prlimit64", 1, 0) == EPERM
    assert ask(architecture, "setpriority", 0, 0, 19) == ALLOW
    assert ask(architecture, "setpriority", 0, 1, 19) == EPERM
    assert ask(architecture, "setpriority", 2, 0, 19) == EPERM  # PRIO_USER: the guest may be of the same
    assert ask(architecture, "sched_setaffinity", 0, 128) == ALLOW
    assert ask(architecture, "sched_setaffinity", 1, 128) == EPERM
    assert ask(architecture, "ioprio_set", 1, 0, 3 << 13) == ALLOW
    assert ask(architecture, "ioprio_set", 1, 1, 3 << 13) == EPERM
    assert ask(architecture, "ioprio_set", 3, 0, 3 << 13) == EPERM  # IOPRIO_WHO_USER


def test_memory_without_a_process_is_refused_where_no_group_counts_it(architecture: str) -> None:
    assert ask(architecture, "memfd_create") == ALLOW
    assert ask(architecture, "memfd_create", measured=False) == EPERM
    assert ask(architecture, "vmsplice", measured=False) == EPERM


def test_the_buffers_of_sockets_stay_as_they_are_where_no_group_counts_them(architecture: str) -> None:
    for option in (7, 8, 32, 33):  # SO_SNDBUF, SO_RCVBUF, and their FORCE forms
        assert ask(architecture, "setsockopt", 3, 1, option) == ALLOW
        assert ask(architecture, "setsockopt", 3, 1, option, measured=False) == EPERM
        assert ask(architecture, "setsockopt", 3, (1 << 32) | 1, (1 << 32) | option, measured=False) == EPERM
        assert ask(architecture, "setsockopt", 3, 6, option, measured=False) == ALLOW  # IPPROTO_TCP
    for option in (2, 9, 34):
        assert ask(architecture, "setsockopt", 3, 1, option, measured=False) == ALLOW


def test_no_leases_and_no_larger_pipes(architecture: str) -> None:
    for command in (1024, 1031):  # F_SETLEASE, F_SETPIPE_SZ
        assert ask(architecture, "fcntl", 3, command) == EPERM
        assert ask(architecture, "fcntl", 3, (1 << 32) | command) == EPERM
    for command in (0, 4, 6, 7, 38, 1025, 1030, 1032, 1033):
        assert ask(architecture, "fcntl", 3, command) == ALLOW


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        seccomp.bpf("riscv64")


def test_dockers_profile_says_the_same() -> None:
    profile = json.loads(json.dumps(seccomp.docker_profile()))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {entry["architecture"] for entry in profile["archMap"]} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
    assert all(entry["subArchitectures"] == [] for entry in profile["archMap"])
    free = {
        name
        for rule in profile["syscalls"]
        for name in rule["names"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
    }
    assert free == set(seccomp.allowed()) - {"inotify_init", "inotify_init1"}
    assert not free & seccomp.refused()
    [clone] = [rule for rule in profile["syscalls"] if rule["names"] == ["clone"]]
    [condition] = clone["args"]
    assert (condition["op"], condition["value"], condition["valueTwo"]) == ("SCMP_CMP_MASKED_EQ", 0x7E020000, 0)
