"""What a process that reads strangers' files may do. Entered before any decoder is imported.

Limits hold wherever POSIX has them. The ban on sockets and programs, and on opening files once all
libraries are loaded, is Linux's (seccomp, on x86-64 and ARM64): elsewhere a decoder is a process of
its own with limits, and nothing more.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys

MEMORY = 4 * 2**30  # bytes of address space: what one decoder may hold at most
OPEN_FILES = 64

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Their numbers in the kernel's audit.h."""

# Numbers of system calls: sockets, other programs, other processes' memory, and io_uring, by which
# all of these could be had unseen.
FORBIDDEN = {
    "x86_64": {
        "socket": 41, "connect": 42, "execve": 59, "kill": 62, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "execveat": 322,
        "io_uring_setup": 425, "pidfd_getfd": 438,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "execve": 221, "kill": 129, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "execveat": 281,
        "io_uring_setup": 425, "pidfd_getfd": 438,
    },
}  # fmt: skip
"""By machine, the calls that are refused from the beginning."""

# Numbers of the calls that open a file by its name, or change what a name stands for.
BY_NAME = {
    "x86_64": {
        "open": 2, "creat": 85, "openat": 257, "openat2": 437, "open_by_handle_at": 304,
        "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87,
        "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "mknod": 133, "mkdirat": 258,
        "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265,
        "symlinkat": 266, "fchmodat": 268, "renameat2": 316, "fchmodat2": 452,
    },
    "aarch64": {
        "openat": 56, "openat2": 437, "open_by_handle_at": 265, "mknodat": 33, "mkdirat": 34,
        "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45,
        "fchmodat": 53, "fchownat": 54, "renameat2": 276, "fchmodat2": 452,
    },
}  # fmt: skip
"""By machine, the calls that are refused once all libraries are loaded."""

OTHER_NUMBERS = 0x40000000  # from here on, a second set of numbers for the same calls on x86-64
REFUSE = 0x00050000 | 1  # the call fails with EPERM
ALLOW = 0x7FFF0000
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NO_NEW_PRIVILEGES = 38
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_FILTER, ALL_THREADS = 1, 1


def enter() -> None:
    """Give up what decoding does not need. What this system cannot forbid stays allowed."""
    if os.name == "posix":
        _limit()
    _forbid(FORBIDDEN)


def open_no_more() -> bool:
    """From now on no file can be opened, nor changed by its name; false where that is not known."""
    return _forbid(BY_NAME)


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


def _forbid(calls: dict[str, dict[str, int]]) -> bool:
    """A filter in the kernel's own small language; each instruction is code, jumps, value."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        return False
    numbers = sorted(calls[machine].values())
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, MACHINES[machine]), (RETURN, 0, 0, REFUSE)]
    program.append((LOAD, 0, 0, 0))
    program.append((AT_LEAST, len(numbers) + 1, 0, OTHER_NUMBERS))
    for place, number in enumerate(numbers):
        program.append((EQUAL, len(numbers) - place, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(held))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    given = ctypes.create_string_buffer(header, len(header))
    return not library.syscall(SECCOMP[machine], SET_FILTER, ALL_THREADS, given)
