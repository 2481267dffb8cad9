"""How Linux schedules the threads of a program."""
import ctypes
import os
import platform
import re

OTHER, IDLE = 0, 5  # policies, of sched.h
SHORTEST_NS = 100000
SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine())


class Attributes(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32), ("priority", ctypes.c_uint32), ("slice_ns", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 2),
    ]  # fmt: skip


def slice_of(thread):
    """In nanoseconds; 0 if this kernel (before 6.12) does not report it."""
    if SCHED_GETATTR is None:
        return 0
    attributes = Attributes()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SCHED_GETATTR, thread, ctypes.byref(attributes), ctypes.sizeof(attributes), 0):
        raise OSError(ctypes.get_errno(), "sched_getattr")
    return attributes.slice_ns


def has_slices():
    return slice_of(0) != 0


def threads_of(process, name=""):
    """{number: fields of /proc's stat from the third on} of the threads whose name matches."""
    folder = f"/proc/{process.pid}/task"
    found = {}
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/stat", encoding="ascii") as file:
            head, _, rest = file.read().rpartition(") ")
        if re.search(name, head.partition("(")[2]):
            found[int(thread)] = rest.split()
    return found


def nice_values(process, name=""):
    return {int(fields[16]) for fields in threads_of(process, name).values()}


def policies(process, name=""):
    return {int(fields[38]) for fields in threads_of(process, name).values()}


def slices(process, name=""):
    return {slice_of(thread) for thread in threads_of(process, name)}
