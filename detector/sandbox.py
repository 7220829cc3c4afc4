"""What a process that opens strangers' files may do. Entered before any decoder is imported.

Limits hold wherever POSIX has them. The ban on sockets and programs is Linux's (seccomp, on x86-64
and ARM64): elsewhere a decoder is a process of its own with limits, and nothing more.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys

MEMORY = 4 * 2**30  # bytes of address space: what one decoder may hold at most
OPEN_FILES = 64

# Numbers of system calls: sockets, other programs, other processes' memory, and io_uring, by which
# all of these could be had unseen.
FORBIDDEN = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "connect": 42, "execve": 59, "kill": 62, "ptrace": 101,
         "process_vm_readv": 310, "process_vm_writev": 311, "execveat": 322,
         "io_uring_setup": 425, "pidfd_getfd": 438},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "connect": 203, "execve": 221, "kill": 129, "ptrace": 117,
         "process_vm_readv": 270, "process_vm_writev": 271, "execveat": 281,
         "io_uring_setup": 425, "pidfd_getfd": 438},
    ),
}  # fmt: skip
"""By machine: its number in the kernel's audit.h, and the calls that are refused."""

OTHER_NUMBERS = 0x40000000  # from here on, a second set of numbers for the same calls on x86-64
REFUSE = 0x00050000 | 1  # the call fails with EPERM
ALLOW = 0x7FFF0000
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
SET_SECCOMP, FILTER, NO_NEW_PRIVILEGES = 22, 2, 38


def enter() -> None:
    """Give up what decoding does not need. What this system cannot forbid stays allowed."""
    if os.name == "posix":
        _limit()
    if sys.platform == "linux":
        _forbid()


def allow_seconds(seconds: float) -> None:
    """Processor time from now on, over all cores, after which the system ends this process."""
    if os.name != "posix":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def give_memory_back() -> None:
    """To the system, where the C library can: glibc keeps what threads freed until it is told."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _limit() -> None:
    import resource

    wanted = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,  # nothing is written
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in wanted.items():
        with contextlib.suppress(OSError, ValueError):  # macOS knows no limit of address space
            resource.setrlimit(limit, (value, value))


def _forbid() -> None:
    """A filter in the kernel's own small language; each instruction is code, jumps, value."""
    if platform.machine() not in FORBIDDEN:
        return
    machine, calls = FORBIDDEN[platform.machine()]
    numbers = sorted(calls.values())
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (RETURN, 0, 0, REFUSE), (LOAD, 0, 0, 0)]
    program.append((AT_LEAST, len(numbers) + 1, 0, OTHER_NUMBERS))
    for place, number in enumerate(numbers):
        program.append((EQUAL, len(numbers) - place, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(held))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    library.prctl(SET_SECCOMP, FILTER, ctypes.create_string_buffer(header, len(header)), 0, 0)
