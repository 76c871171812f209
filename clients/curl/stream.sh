#!/bin/sh
# Ask one question and print the events as they come: clients/curl/stream.sh "Who wrote Hamlet?"
# Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
set -eu
# JSON escapes for the two characters that would end the string.
question=$(printf '%s' "${1:-What is the capital of France? Answer in one sentence.}" | sed 's/[\\"]/\\&/g')
curl --no-buffer --silent --show-error --fail-with-body \
    "${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}/chat/completions" \
    -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
    -H 'Content-Type: application/json' \
    -d '{
      "model": "smollm2-135m-instruct",
      "messages": [{"role": "user", "content": "'"$question"'"}],
      "temperature": 0,
      "stream": true
    }'
