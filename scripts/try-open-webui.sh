#!/bin/sh
# Runs Open WebUI against a live server of this machine, uses it in a headless browser, and says what it
# asked for: scripts/try-open-webui.sh [screenshot.png]. No part of `make test`: it installs 2 GB.
#
# Twice: with Open WebUI's own settings, and over /v1/responses without the tools that it brings and with
# fewer background tasks; the screenshot is of the second. Fails if an answer was no 2xx or a field was
# ignored.
#
# Needs python3 3.11 or 3.12, and Chromium (`apt-get install chromium`). Reads OPENAI_BASE_URL
# (http://127.0.0.1:8000/v1), OPENAI_API_KEY (any value where the server needs none), MODEL, CHROMIUM,
# and CORRAL_CLIENTS_DIR, where the environments and records are kept. Results: docs/clients.md.
set -eu
[ -z "${1:-}" ] || set -- "$(realpath "$1")"
cd "$(dirname "$0")/.."
OPENAI_BASE_URL=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
MODEL=${MODEL:-smollm2-135m-instruct}
CHROMIUM=${CHROMIUM:-chromium}
CHROMIUM=$(command -v "$CHROMIUM")
export OPENAI_BASE_URL MODEL CHROMIUM
curl -sSf -o /dev/null -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" "$OPENAI_BASE_URL/models"
dir=${CORRAL_CLIENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/corral-clients}
mkdir -p "$dir"
pids= data=
trap 'kill $pids 2>/dev/null || true; rm -rf "$data"' EXIT
trap 'exit 1' INT TERM

if ! [ -x "$dir/open-webui/bin/open-webui" ]; then
    python3 -m venv "$dir/open-webui"
    # Else pip would take torch's CUDA build with it, some GB.
    PYTHONPATH=scripts "$dir/open-webui/bin/python" -c 'if True:
        import install, pathlib, sys
        install.install_torch_cpu(pathlib.Path(sys.argv[1]))' "$dir/open-webui"
    "$dir/open-webui/bin/pip" install --quiet --only-binary :all: open-webui==0.12.4
fi
[ -d "$dir/browser" ] || python3 -m venv "$dir/browser"
"$dir/browser/bin/pip" install --quiet --only-binary :all: aiohttp==3.14.5 playwright==1.65.2 psutil==7.2.2

# await SECONDS COMMAND...: until it succeeds
await() {
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "waited in vain for: $*" >&2; exit 1; }
        sleep 1
    done
}

# run NAME [VARIABLE=VALUE ...]: Open WebUI with a new data directory and these settings, in the browser
run() {
    name=$1
    shift
    RECORD=$dir/open-webui-$name.jsonl
    export RECORD
    data=$(mktemp -d)
    : >"$RECORD"
    "$dir/browser/bin/python" tests/clients/recorder.py "${OPENAI_BASE_URL%/v1}" "$RECORD" >"$data/address" &
    recorder=$!
    pids=$recorder
    await 30 grep -q http "$data/address"
    port=$("$dir/browser/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1])')
    # Nothing is fetched from a hub; documents, voices and other providers are left out.
    env DATA_DIR="$data" HF_HUB_OFFLINE=1 OFFLINE_MODE=true WEBUI_AUTH=False WEBUI_SECRET_KEY=none \
        CORS_ALLOW_ORIGIN="http://127.0.0.1:$port" ENABLE_OLLAMA_API=false RAG_EMBEDDING_ENGINE=openai \
        BYPASS_EMBEDDING_AND_RETRIEVAL=true OPENAI_API_BASE_URL="$(cat "$data/address")/v1" \
        OPENAI_API_KEY="${OPENAI_API_KEY:-none}" "$@" \
        "$dir/open-webui/bin/open-webui" serve --host 127.0.0.1 --port "$port" >"$dir/open-webui-$name.log" 2>&1 &
    webui=$!
    pids="$recorder $webui"
    await 180 curl -sf "http://127.0.0.1:$port/health"
    echo "$name"
    OPEN_WEBUI_URL="http://127.0.0.1:$port" \
        "$dir/browser/bin/python" tests/clients/try_open_webui.py
    kill $pids
    wait $pids 2>/dev/null || true
    pids=
    rm -rf "$data"
    "$dir/browser/bin/python" tests/clients/wire.py "$RECORD"
}

TASKS='title follow-ups tags'
export TASKS
run chat
TASKS=title SCREENSHOT=${1:-}
export SCREENSHOT
run responses ENABLE_FOLLOW_UP_GENERATION=false ENABLE_TAGS_GENERATION=false \
    OPENAI_API_CONFIGS='{"0": {"api_type": "responses"}}' \
    DEFAULT_MODEL_METADATA='{"capabilities": {"builtin_tools": false, "usage": true}}'
