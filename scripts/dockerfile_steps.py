"""Print the steps of a Dockerfile target as a shell script, to try them in a root without Docker.

    CONTEXT=. python3 scripts/dockerfile_steps.py cpu > steps.sh

Stages that the target is built from, by FROM or COPY --from, come first. All run in one root, so a
COPY --from of a path to itself is nothing to do. RUN lines are printed as they are written; COPY
takes from $CONTEXT. HEALTHCHECK, VOLUME, EXPOSE, ENTRYPOINT and CMD are printed as comments.
"""

import re
import shlex
import sys
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parent.parent / "Dockerfile"

Step = tuple[str, str]  # instruction in capitals, its text


def parse(text: str) -> dict[str, list[Step]]:
    """Stage name → its steps; the first step of a stage is its FROM."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    stages: dict[str, list[Step]] = {}
    steps: list[Step] = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        instruction, _, rest = line.partition(" ")
        rest = " ".join(rest.split())
        if instruction.upper() == "FROM":
            steps = []
            stages[rest.split(" AS ")[-1]] = steps
        steps.append((instruction.upper(), rest))
    return stages


def order(stages: dict[str, list[Step]], target: str) -> list[str]:
    """The target and every stage it needs, each after those it needs itself."""
    needed: list[str] = []
    for instruction, rest in stages[target]:
        source = re.match(r"(\S+) AS", rest) if instruction == "FROM" else None
        copied = re.match(r"--from=(\S+)", rest) if instruction == "COPY" else None
        for match in filter(None, (source, copied)):
            if match.group(1) in stages:
                needed += order(stages, match.group(1))
    return list(dict.fromkeys([*needed, target]))


# COPY as shell, with Docker's rule that a directory's content is what is copied.
PUT = """put() {
    case $2 in */) mkdir -p "$2" ;; *) mkdir -p "$(dirname "$2")" ;; esac
    if [ -d "$CONTEXT/$1" ]; then mkdir -p "$2"; cp -a "$CONTEXT/$1/." "$2/"
    else cp -a "$CONTEXT/$1" "$2"; fi
}"""


def copy(rest: str) -> str:
    """A COPY as shell."""
    if rest.startswith("--from="):
        _, source, target = rest.split()
        return ":" if source == target else f"cp -a {source} {target}"
    *sources, target = rest.split()
    return "\n".join(f"put {source} {target}" for source in sources)


def shell(instruction: str, rest: str) -> str:
    """One step as shell."""
    if instruction == "RUN":
        return re.sub(r"--mount=\S+ ", "", rest)
    if instruction == "ENV":
        return f"export {rest}"
    if instruction == "ARG":
        name, _, default = rest.partition("=")
        return f": ${{{name}={shlex.quote(default)}}}; export {name}"
    if instruction == "WORKDIR":
        return f"mkdir -p {rest}; cd {rest}"
    if instruction == "COPY":
        return copy(rest)
    return f"# {instruction} {rest}"


def script(text: str, target: str) -> str:
    """The shell script for a target of a Dockerfile's text."""
    stages = parse(text)
    lines = ["set -eu", PUT]
    for stage in order(stages, target):
        lines.append(f"\n# stage {stage}")
        for instruction, rest in stages[stage]:
            if instruction == "RUN":
                lines.append(f"echo {shlex.quote('RUN ' + rest)}")
            lines.append(shell(instruction, rest))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(script(DOCKERFILE.read_text(), sys.argv[1]), end="")
