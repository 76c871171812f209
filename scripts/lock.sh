#!/bin/sh
# Writes requirements/{cpu,gpu,dev,train,node}.txt from pyproject.toml (`make lock`): every package of
# an environment, pinned, for Python 3.11 to 3.13 on x86-64 Linux. Wheels only, so that an install never
# calls a compiler. No index or host is written: pip uses the one it is configured with.
#
#   UPGRADE=1 make lock     takes the newest versions; without it, pins stay where they still fit
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
out=requirements
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# The lock is for one platform and for the pythons below one, so their markers say nothing and are taken
# out of every line.
platform="implementation_name == 'cpython' and platform_machine == 'x86_64' and sys_platform == 'linux'"
pypy="platform_python_implementation != 'PyPy'"
newest="python_full_version < '3.14'"

# compile NAME ARGUMENTS...: resolve into requirements/NAME.txt
compile() {
    name=$1
    shift
    "$uv" pip compile --quiet --universal --only-binary :all: --no-header --no-emit-index-url \
        --no-emit-find-links --annotation-style line ${UPGRADE:+--upgrade} "$@" \
        --output-file "$out/$name.txt"
    sed -e "s/ and $pypy//" -e "s/ *; $platform//" -e "s/ and $platform//" \
        -e "s/ *; $newest  / /;s/ and $newest  /  /;s/ *; $newest and / ; /" \
        -e 's/ *# via/  # via/' \
        -e "s|-r $tmp/\([a-z]*\).in|corral (\1)|" -e "s|, -c $tmp/constraints||" -e 's/corral (pyproject.toml)/corral/' "$out/$name.txt" >"$tmp/lock"
    {
        echo "# Made by 'make lock' from pyproject.toml; do not edit. Linux x86-64, CPython 3.11 to 3.13."
        cat "$tmp/lock"
    } >"$out/$name.txt"
}

compile cpu pyproject.toml "$out/torch-cpu.in" --extra cpu --excludes "$out/excluded-cpu.txt"

compile node "$out/node.in"

# The GPU build takes the CPU build's versions wherever vLLM lets it: uv prefers what the file holds.
names() { sed -n 's/^\([a-z0-9._-]*\)==.*/\1/p' "$@"; }
touch "$out/gpu.txt"
names "$out/cpu.txt" >"$tmp/cpu.names"
sed 's/==.*//' "$out/gpu.txt" | grep -vxFf "$tmp/cpu.names" >"$tmp/gpu.names" || true
{
    cat "$out/cpu.txt"
    grep -E "^($(paste -sd'|' "$tmp/gpu.names" | sed 's/^$/none/'))==" "$out/gpu.txt" || true
} >"$tmp/preferred"
cp "$tmp/preferred" "$out/gpu.txt"
compile gpu pyproject.toml --extra gpu

# Tools and training fit both, and their files hold only what neither build brings.
sed 's/ *#.*//' "$out/cpu.txt" >"$tmp/constraints"
names "$out/gpu.txt" | sort | comm -12 - "$tmp/cpu.names" | sed 's/.*/^&==/' >"$tmp/both"
for extra in dev train; do
    python3 - "$extra" >"$tmp/$extra.in" <<'PY'
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
print(*project["optional-dependencies"][sys.argv[1]], sep="\n")
PY
    # torch is either build's own, and only the CPU build's lies outside of the constraints.
    compile "$extra" "$tmp/$extra.in" --constraints "$tmp/constraints" \
        --excludes "$out/excluded-cpu.txt"
    grep -vf "$tmp/both" "$out/$extra.txt" >"$tmp/$extra" && cat "$tmp/$extra" >"$out/$extra.txt"
    # Both are installed into one environment: what they share has one version.
    sed 's/ *#.*//' "$out/$extra.txt" >>"$tmp/constraints"
done

for name in cpu gpu dev train node; do
    echo "$out/$name.txt: $(names "$out/$name.txt" | sort -u | grep -c .) packages"
done
