"""Prints the SHA-256 of the virtual contents of VHDX files, one line for each, as dissect.hypervisor reads them.

Differencing disks are read eight sectors at a time, others block by block: longer reads that do not begin at a block
or at a whole byte of a sector bitmap are miscounted by dissect.hypervisor 3.
"""

import hashlib
import sys
from pathlib import Path

from dissect.hypervisor.disk.vhdx import VHDX

for name in sys.argv[1:]:
    disk = VHDX(Path(name))
    step = 8 if disk.has_parent else disk.block_size // disk.sector_size
    total = disk.size // disk.sector_size
    digest = hashlib.sha256()
    for first in range(0, total, step):
        digest.update(disk.read_sectors(first, min(step, total - first)))
    print(digest.hexdigest())
