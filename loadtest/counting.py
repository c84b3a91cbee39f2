"""What a piece of code costs: instructions where the kernel counts them, else the least time.

Instructions in user space are the better measure: the same code costs the same, whatever else the
machine does. They come from the kernel's own counter of this thread (perf_event_open(2)), where it
has one and lets us have it; a container or a virtual machine may not.
"""

import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable

PERF_EVENT_OPEN = 298  # its number on x86-64 (the kernel's syscall table)
HARDWARE_EVENT = 0  # PERF_TYPE_HARDWARE
INSTRUCTIONS = 1  # PERF_COUNT_HW_INSTRUCTIONS
ATTRIBUTES_BYTES = 112  # struct perf_event_attr, as of its sixth version
USER_SPACE_ONLY = 1 << 5 | 1 << 6  # exclude_kernel, exclude_hv

Clock = Callable[[], int]
"""Something that only grows: instructions so far, or nanoseconds."""


def instructions() -> Clock | None:
    """Return a clock of this thread's instructions in user space; None where there is none."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return None
    attributes = bytearray(ATTRIBUTES_BYTES)
    struct.pack_into("IIQ", attributes, 0, HARDWARE_EVENT, ATTRIBUTES_BYTES, INSTRUCTIONS)
    struct.pack_into("Q", attributes, 40, USER_SPACE_ONLY)
    buffer = (ctypes.c_char * ATTRIBUTES_BYTES).from_buffer(attributes)
    descriptor = ctypes.CDLL(None).syscall(PERF_EVENT_OPEN, buffer, 0, -1, -1, 0)
    if descriptor < 0:
        return None
    return lambda: int.from_bytes(os.read(descriptor, 8), sys.byteorder)


def nanoseconds() -> int:
    """Return the time."""
    return time.perf_counter_ns()


def cost(work: Callable[[], object], clock: Clock, *, times: int, rounds: int) -> float:
    """Return what one `work` costs: the least of `rounds`, in each of which it is done `times`."""
    least = float("inf")
    for _ in range(rounds):
        begun = clock()
        for _ in range(times):
            work()
        least = min(least, clock() - begun)
    return least / times
