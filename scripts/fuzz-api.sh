#!/bin/sh
# Asks a live server thousands of requests, right and wrong ones, that schemathesis makes of its
# /openapi.json, and says where an answer is none that is described there: scripts/fuzz-api.sh
# [OPTION ...], with options of `schemathesis run`. What it keeps to: tests/fuzz.
#
# Reads OPENAI_BASE_URL (http://127.0.0.1:8000/v1), OPENAI_API_KEY (any value where the server needs
# none), EXAMPLES, how many random requests each operation is asked besides those at the limits, and
# PYTHON (.venv/bin/python, which `make test` fills).
# Responses and conversations are stored: ask a server whose database may be thrown away.
set -eu
cd "$(dirname "$0")/.."
OPENAI_BASE_URL=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
OPENAI_API_KEY=${OPENAI_API_KEY:-none}
export OPENAI_BASE_URL OPENAI_API_KEY

exec "${PYTHON:-.venv/bin/python}" -m schemathesis.cli --config-file tests/fuzz/schemathesis.toml \
    run "${OPENAI_BASE_URL%/v1}/openapi.json" --header "Authorization: Bearer $OPENAI_API_KEY" \
    --max-examples "${EXAMPLES:-100}" "$@"
