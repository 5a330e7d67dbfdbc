"""Runs a job on a cluster of nodes of this machine, perhaps on a disk that is full after some files.

    python -m tests.jobs.run_on_nodes ADDRESS FILES jobs.sweep …

ADDRESS is that of ``tests.cluster.two_nodes``. After so many FILES were synced to the disk, nothing can be any more; a
negative number is a disk without an end.
"""

import errno
import logging
import os
import runpy
import sys

import ray

from assay.cluster.session import set_defaults


def fill_disk(after: int) -> None:
    """Lets every sync fail after some of them, as a full disk does, and as one that stays full."""
    left, sync = [after], os.fsync

    def fsync(file: int) -> None:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        sync(file)

    os.fsync = fsync


if __name__ == "__main__":
    address, files, job, *arguments = sys.argv[1:]
    set_defaults()
    # A driver finds its own node by this address: Ray replaces 127.0.0.1 by one that others could reach.
    ray.init(address=address, _node_ip_address="127.0.0.2", log_to_driver=False, logging_level=logging.ERROR)
    if int(files) >= 0:
        fill_disk(int(files))
    sys.argv = [job, *arguments]
    runpy.run_module(job, run_name="__main__", alter_sys=True)
