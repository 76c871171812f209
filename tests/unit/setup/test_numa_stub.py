"""The stand-in for libnuma: it loads, answers "no NUMA", and satisfies vLLM's kernels."""

import ctypes
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts import numa_stub


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / numa_stub.SONAME
    path.write_bytes(numa_stub.library())
    return path


def test_it_says_that_there_is_no_numa(library: Path) -> None:
    assert ctypes.CDLL(str(library)).numa_available() == -1


def test_it_has_every_function_under_its_version(library: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.dlvsym.restype = ctypes.c_void_p
    libc.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    handle = ctypes.CDLL(str(library))._handle
    for name, (version, _) in numa_stub.FUNCTIONS.items():
        assert libc.dlvsym(handle, name.encode(), version.encode()), name
        other = next(v for v in numa_stub.VERSIONS if v != version)
        assert not libc.dlvsym(handle, name.encode(), other.encode()), name


def test_its_functions_are_those_that_the_kernels_are_linked_with() -> None:
    spec = find_spec("vllm")
    if not (spec and spec.origin and shutil.which("nm")):
        pytest.skip("needs vLLM and nm")
    kernels = sorted(Path(spec.origin).parent.glob("_C*.abi3.so"))
    if not any(b"libnuma.so.1" in path.read_bytes() for path in kernels):
        pytest.skip("this build of vLLM does not use libnuma")
    for path in kernels:
        command = ["nm", "-D", "--undefined-only", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        wanted = dict(re.findall(r" (numa_\w+)@+(\S+)", text))
        assert wanted == {name: version for name, (version, _) in numa_stub.FUNCTIONS.items()}


def test_another_library_that_needs_libnuma_finds_it_once_it_is_loaded(library: Path) -> None:
    code = f"""
import ctypes
ctypes.CDLL({str(library)!r})
ctypes.CDLL({numa_stub.SONAME!r})  # by name, as the loader looks for it
maps = open("/proc/self/maps").read()
assert {str(library)!r} in maps and maps.count("libnuma.so.1.") == 0, maps
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
