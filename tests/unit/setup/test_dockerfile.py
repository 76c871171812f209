"""The Dockerfile: what its final stages hold, and that its steps are a script we can try."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import dockerfile_steps

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "Dockerfile").read_text()
STAGES = dockerfile_steps.parse(TEXT)
BUILD_TOOLS = r"\b(gcc|g\+\+|clang|make|cmake|ninja-build|build-essential|rustc|git|\S+-dev)\b"


def steps(target: str) -> list[dockerfile_steps.Step]:
    """What the image of a target is made of: its stage and those it starts FROM."""
    chain = [target]
    while (base := STAGES[chain[-1]][0][1].split()[0]) in STAGES:
        chain.append(base)
    return [step for stage in reversed(chain) for step in STAGES[stage]]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
class TestTarget:
    def test_it_does_not_run_as_root(self, target: str) -> None:
        users = [text for instruction, text in steps(target) if instruction == "USER"]
        assert users[-1] not in ("", "0", "root")

    def test_it_has_a_healthcheck_that_needs_no_curl(self, target: str) -> None:
        (check,) = [text for instruction, text in steps(target) if instruction == "HEALTHCHECK"]
        assert "healthcheck.py" in check
        assert "curl" not in check

    def test_models_are_in_a_volume_that_its_user_may_write(self, target: str) -> None:
        assert ("VOLUME", "/var/cache/corral") in steps(target)
        assert any("CORRAL_CACHE_DIR=/var/cache/corral" in text for _, text in steps(target))
        assert any("install -d -o corral" in text for _, text in steps(target))

    def test_its_image_has_no_build_tools(self, target: str) -> None:
        runs = [text for instruction, text in steps(target) if instruction == "RUN"]
        assert runs
        assert not [text for text in runs if re.search(BUILD_TOOLS, text)]

    def test_it_starts_the_server_on_all_addresses(self, target: str) -> None:
        assert ("ENTRYPOINT", '["corral"]') in steps(target)
        assert ("CMD", '["serve", "--host", "0.0.0.0"]') in steps(target)

    def test_what_it_copies_is_there_and_reaches_the_build(self, target: str) -> None:
        allowed = (ROOT / ".dockerignore").read_text().split()
        for stage in dockerfile_steps.order(STAGES, target):
            for instruction, text in STAGES[stage]:
                if instruction == "COPY" and not text.startswith("--from"):
                    for source in text.split()[:-1]:
                        assert any(line.startswith(f"!{source}") for line in allowed), source

    def test_it_has_the_page_and_not_what_builds_it(self, target: str) -> None:
        script = dockerfile_steps.script(TEXT, target)
        built = script.index("python3 -m scripts.build_web --required\n")
        assert built < script.index("pip install --no-deps --no-build-isolation .\n")
        build = STAGES["build-cuda" if target == "cuda" else "build-cpu"]
        static = "/src/server/web/static"
        copied = ("COPY", f"--from=web {static} {static}")
        assert build.index(("COPY", "server server")) < build.index(copied)
        sources = {text for instruction, text in steps(target) if instruction == "COPY"}
        assert not [text for text in sources if "clients" in text or "--from=web" in text]

    def test_its_steps_are_a_shell_script(self, target: str) -> None:
        script = dockerfile_steps.script(TEXT, target)
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
        build = "gpu" if target == "cuda" else "cpu"
        assert f"python3 -m scripts.install --build {build}" in script
        assert script.index("install --build") < script.index(f"# stage {target}\n")


def test_no_key_is_baked_in() -> None:
    assert not any("CORRAL_API_KEY" in text for stage in STAGES.values() for _, text in stage)


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT}/.venv/bin")
    if not hadolint:
        pytest.skip("hadolint is not in this environment")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
