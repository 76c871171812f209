#!/bin/sh
# Have the model call a function, and print the call: clients/curl/tools.sh "Weather in Rome?"
# Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
set -eu
# JSON escapes for the two characters that would end the string.
question=$(printf '%s' "${1:-What is the weather in Paris?}" | sed 's/[\\"]/\\&/g')
curl --silent --show-error --fail-with-body \
    "${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}/chat/completions" \
    -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
    -H 'Content-Type: application/json' \
    -d '{
      "model": "smollm2-135m-instruct",
      "messages": [{"role": "user", "content": "'"$question"'"}],
      "tools": [{"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather in a city right now.",
        "parameters": {
          "type": "object",
          "properties": {"city": {"type": "string", "maxLength": 40}},
          "required": ["city"]
        }
      }}],
      "tool_choice": "required",
      "temperature": 0,
      "max_tokens": 200
    }'
echo
