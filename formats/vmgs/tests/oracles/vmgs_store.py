"""Reads a store of version 3 on its own, for comparison: FILE [KEY AS HEX]. Prints JSON.

Written from the layout alone, with none of the crate's code. Exit code 3: the Python package `cryptography` is missing.
"""
import json
import struct
import sys
import zlib

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    sys.exit(3)

BLOCK = 4096


def header(data, at):
    raw = data[at:at + 168]
    zeroed = raw[:12] + bytes(4) + raw[16:]
    version, checksum, sequence, size, table, blocks, algorithm = struct.unpack_from("<IIIIIIH", raw, 8)
    if raw[:8] != b"GUESTRTS" or zlib.crc32(zeroed) != checksum:
        return None
    assert (version, size, blocks) == (0x30000, 168, 1)
    slots = [struct.unpack_from("<12sI16s32s", raw, 36 + 64 * slot) for slot in range(2)]
    return sequence, table, algorithm, slots


def main(path, key=None):
    data = open(path, "rb").read()
    footer, data = data[-512:], data[:-512]
    assert footer[:8] == b"conectix" and struct.unpack_from(">Q", footer, 48)[0] == len(data)
    total = sum(footer) - sum(footer[64:68])
    assert struct.unpack_from(">I", footer, 64)[0] == 0xFFFFFFFF - total
    second = 512 if data[512:520] == b"GUESTRTS" else 4096
    found = [(copy, header(data, at)) for copy, at in enumerate([0, second])]
    found = [(copy, one) for copy, one in found if one]
    if len(found) == 2:
        (_, first), (_, other) = found
        ahead = (first[0] - other[0]) % 2**32
        assert ahead in (1, 2**32 - 1)
        found = [found[0] if ahead == 1 else found[1]]
    copy, (sequence, table, algorithm, slots) = found[0]

    files, sealed = {}, {}
    for number in range(64):
        at = table * BLOCK + 64 * number
        block, blocks, size, nonce, tag, attributes = struct.unpack_from("<IIQ12s16sI", data, at)
        if blocks:
            content = data[block * BLOCK:block * BLOCK + size]
            files[number], sealed[number] = content, (nonce, tag, attributes)
    if algorithm == 1 and key:
        metadata_key = None
        for nonce, _, tag, encrypted in slots:
            try:
                metadata_key = AESGCM(key).decrypt(nonce, encrypted + tag, None)
            except Exception:
                continue
        nonce, tag, _ = sealed[63]
        keys = files[63] = AESGCM(metadata_key).decrypt(nonce, files[63] + tag, None)
        for number in files:
            attributes, file_key = struct.unpack_from("<I32s", keys, 64 * number)
            if number != 63 and attributes:
                nonce, tag, _ = sealed[number]
                files[number] = AESGCM(file_key).decrypt(nonce, files[number] + tag, None)
    print(json.dumps({
        "copy": copy,
        "sequence": sequence,
        "algorithm": algorithm,
        "files": {str(number): content.hex() for number, content in files.items()},
    }))


main(sys.argv[1], bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else None)
