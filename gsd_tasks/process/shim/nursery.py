"""A process that has loaded the shim's code, and forks a shim whenever its worker asks: that costs 2 ms instead of 50.

    request:  the spool's folder, with four descriptors: lock, standard input, standard output, log
    answer:   the shim's pid, or an errno below zero

One datagram each, over a socket that only the worker has. When the worker closes it, or dies, the nursery ends. It has
one thread and holds nothing of any session: what a shim is told goes through the shim's own pipe.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Final

from gsd_tasks.process.shim import linux
from gsd_tasks.process.shim.main import main

ANSWER: Final = struct.Struct("=i")
PATH_BYTES: Final = 4096
#: What it is started with; room for what its shims show in the place of that.
ARGUMENT: Final = "--nursery"
ROOM: Final = " " * 255
_DESCRIPTORS: Final = 4


def serve(worker: socket.socket) -> int:
    """Fork until nobody asks any more; the exit status."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    linux.make_undumpable()
    linux.name_process(b"gsd-nursery")
    # What each shim would else find out for itself.
    arguments = linux.find_arguments(ARGUMENT.encode())
    linux.boot_id()
    linux.kernel_version()
    # What is there now is shared with every shim for as long as nobody writes to it, as the collector would.
    gc.collect()
    gc.freeze()
    while True:
        folder, descriptors, _, _ = socket.recv_fds(worker, PATH_BYTES, _DESCRIPTORS)
        if not folder:
            return 0
        try:
            answer = linux.fork_sibling()
        except OSError as error:
            answer = -(error.errno or 1)
        if answer == 0:
            worker.close()
            _be_shim(arguments, os.fsdecode(folder), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        worker.send(ANSWER.pack(answer))


def _be_shim(arguments: linux.Arguments | None, folder: str, lock: int, stdin: int, stdout: int, log: int) -> None:
    """As one that was executed anew: in a session of its own, with its own three descriptors. Does not return."""
    status = 1
    try:
        os.setsid()
        for descriptor, number in ((stdin, 0), (stdout, 1), (log, 2)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        if arguments is not None:
            linux.show_arguments(arguments, b"%s\0%d" % (os.fsencode(folder), lock))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = main([folder, str(lock)])
    except BaseException:  # noqa: BLE001 - whatever it is, it must not get into the nursery's loop
        with contextlib.suppress(OSError):  # the log's disk may be full
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)
