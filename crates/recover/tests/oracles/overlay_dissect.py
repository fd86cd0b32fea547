"""Prints the SHA-256 of a suspended BitLocker volume in a VHDX, with its parents, as dissect.hypervisor and dissect.fve read it.

`PATH OFFSET SIZE`: the youngest file of the chain, and where the volume lies on the disk, in bytes. It is opened with its clear
key alone. Differencing disks are read eight sectors at a time, which dissect.hypervisor 3 reads right.
"""

import hashlib
import sys
from pathlib import Path

try:
    from dissect.fve.bde import bde
    from dissect.hypervisor.disk.vhdx import VHDX
    from dissect.util.stream import AlignedStream, RangeStream
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

PIECE_SECTORS = 8


class Disk(AlignedStream):
    def __init__(self, path):
        self.disk = VHDX(Path(path))
        self.piece = PIECE_SECTORS * self.disk.sector_size
        super().__init__(size=self.disk.size, align=self.piece)

    def _read(self, offset, length):
        first, end = offset // self.disk.sector_size, min(offset + length, self.disk.size) // self.disk.sector_size
        pieces = (self.disk.read_sectors(at, min(PIECE_SECTORS, end - at)) for at in range(first, end, PIECE_SECTORS))
        return b"".join(pieces)


path, offset, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
volume = bde.BDE(RangeStream(Disk(path), offset, size))
volume.unlock_with_clear_key()
plain = volume.open()
content = hashlib.sha256()
while piece := plain.read(1 << 20):
    content.update(piece)
print(content.hexdigest())
