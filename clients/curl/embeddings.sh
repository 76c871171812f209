#!/bin/sh
# Turn a text into a vector: clients/curl/embeddings.sh "The cat sleeps." [model]
# Needs a server with a model of `kind: embedding`, such as examples/registry/embedding.yaml has.
# Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
set -eu
# JSON escapes for the two characters that would end the string.
text=$(printf '%s' "${1:-The cat sleeps on the sofa.}" | sed 's/[\\"]/\\&/g')
curl --silent --show-error --fail-with-body \
    "${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}/embeddings" \
    -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
    -H 'Content-Type: application/json' \
    -d '{"model": "'"${2:-all-minilm-l6-v2}"'", "input": "'"$text"'"}'
echo
