"""Prints the trees of HyperVStorage containers as dissect.hypervisor reads them, as one JSON array.

Every node is [kind, value]: of a Node the value is an object of its children, of an Array and of a Double it is hex.
A file that it refuses is the name of its exception.
"""

import json
import struct
import sys

from dissect.hypervisor.descriptor.hyperv import HyperVFile


def shown(entry):
    kind = entry.type.name
    if kind == "Node":
        return [kind, {name: shown(child) for name, child in entry.children.items()}]
    value = entry.value
    if kind == "Array":
        value = value.hex()
    elif kind == "Double":
        value = struct.pack("<d", value).hex()
    return [kind, value]


def tree(name):
    with open(name, "rb") as file:
        try:
            container = HyperVFile(file)
            return ["Node", {name: shown(child) for name, child in container.root.items()}]
        except Exception as refusal:
            return f"{type(refusal).__name__}: {refusal}"


json.dump([tree(name) for name in sys.argv[1:]], sys.stdout)
