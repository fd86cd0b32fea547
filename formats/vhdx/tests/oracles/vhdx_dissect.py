"""Prints the SHA-256 of the virtual contents of VHDX files, one line for each, as dissect.hypervisor reads them.

`PATH` stands for all of a disk, `PATH@FIRST+COUNT,FIRST+COUNT` for runs of its sectors. A disk that it refuses is
the name of its exception.

Differencing disks are read eight sectors at a time, others block by block: longer reads that do not begin at a block
or at a whole byte of a sector bitmap are miscounted by dissect.hypervisor 3.
"""

import hashlib
import sys
from pathlib import Path

from dissect.hypervisor.disk.vhdx import VHDX


def digest(argument):
    name, _, runs = argument.partition("@")
    disk = VHDX(Path(name))
    step = 8 if disk.has_parent else disk.block_size // disk.sector_size
    wanted = [run.split("+") for run in runs.split(",")] if runs else [(0, disk.size // disk.sector_size)]
    content = hashlib.sha256()
    for first, count in wanted:
        first, end = int(first), int(first) + int(count)
        for sector in range(first, end, step):
            content.update(disk.read_sectors(sector, min(step, end - sector)))
    return content.hexdigest()


for argument in sys.argv[1:]:
    try:
        print(digest(argument))
    except Exception as refusal:
        print(f"{type(refusal).__name__}: {refusal}".splitlines()[0])
