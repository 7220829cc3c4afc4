"""Restrict what a process that decodes untrusted files may do.

Resource limits work on POSIX systems. A seccomp filter that forbids sockets, starting programs and
later also opening files works on Linux (x86-64 and ARM64). Elsewhere a decoder is only a separate
process.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys

MAX_MEMORY = 4 * 2**30  # bytes of address space of one decoder
MAX_OPEN_FILES = 64

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Architecture numbers (AUDIT_ARCH_*) of the kernel's audit.h."""

# Sockets, other programs, other processes' memory, and io_uring, which could bypass the filter.
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
"""Architecture -> numbers of the system calls that are refused from the start."""

# Calls that open a file by its name, or rename, create or delete one.
FILE_CALLS = {
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
"""Architecture -> numbers of the system calls that are refused once all modules are loaded."""

X32_CALLS = 0x40000000  # first number of x86-64's second set of numbers for the same calls (x32)
REFUSE = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # BPF instructions
NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
SECCOMP = {"x86_64": 317, "aarch64": 277}  # numbers of the system call
SET_FILTER, ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC


def enter() -> None:
    """Set the resource limits and forbid FORBIDDEN, as far as this system can."""
    if os.name == "posix":
        _limit()
    _forbid(FORBIDDEN)


def forbid_opening() -> bool:
    """Forbid opening, creating, renaming and deleting files from now on.

    Returns:
        False if this system cannot forbid it.
    """
    return _forbid(FILE_CALLS)


def allow_seconds(seconds: float) -> None:
    """Limit processor time from now on, over all cores; beyond it the process is killed."""
    if os.name != "posix":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def give_memory_back() -> None:
    """Return freed memory to the system; glibc otherwise keeps what threads have freed."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _limit() -> None:
    import resource

    wanted = {
        resource.RLIMIT_AS: MAX_MEMORY,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,  # no file can be written
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in wanted.items():
        with contextlib.suppress(OSError, ValueError):  # macOS has no limit on address space
            resource.setrlimit(limit, (value, value))


def _forbid(calls: dict[str, dict[str, int]]) -> bool:
    """Install a seccomp filter, a BPF program, that refuses these calls and allows the others.

    An instruction is (code, lines to skip if true, lines to skip if false, value).
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        return False
    numbers = sorted(calls[machine].values())
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, MACHINES[machine]), (RETURN, 0, 0, REFUSE)]
    program.append((LOAD, 0, 0, 0))
    program.append((AT_LEAST, len(numbers) + 1, 0, X32_CALLS))
    for position, number in enumerate(numbers):
        program.append((EQUAL, len(numbers) - position, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    argument = ctypes.create_string_buffer(header, len(header))
    return not library.syscall(SECCOMP[machine], SET_FILTER, ALL_THREADS, argument)
