#!/bin/sh
# Runs programs of others against a live server, each in an environment of its own, and says which
# worked: scripts/try-clients.sh [name ...]. No part of `make test`: it installs a lot. Continue and Cline
# need npm. Open WebUI has a script of its own, try-open-webui.sh.
#
# Reads OPENAI_BASE_URL (http://127.0.0.1:8000/v1), OPENAI_API_KEY (any value where the server needs
# none), MODEL, CORRAL_CLIENTS_DIR, where the environments are kept, and SERVER_PYTHON, the Python that
# the server has (lm-eval and vllm-bench need it). Results: docs/clients.md.
set -u
cd "$(dirname "$0")/.."
OPENAI_BASE_URL=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
OPENAI_API_KEY=${OPENAI_API_KEY:-none}
MODEL=${MODEL:-smollm2-135m-instruct}
SERVER_PYTHON=${SERVER_PYTHON:-.venv/bin/python}
export OPENAI_BASE_URL OPENAI_API_KEY MODEL SERVER_PYTHON
# litellm, also inside aider, would fetch a list of prices.
export LITELLM_LOCAL_MODEL_COST_MAP=True
dir=${CORRAL_CLIENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/corral-clients}
mkdir -p "$dir"
failed=0

# install NAME PACKAGES: with npm where PACKAGES say so, else with pip; its programs are in $dir/NAME/bin
install() {
    case $2 in
    npm:*)
        npm install --silent --no-fund --no-audit --prefix "$dir/$1" "${2#npm:}" &&
            ln -sfn node_modules/.bin "$dir/$1/bin"
        ;;
    *)
        { [ -d "$dir/$1" ] || python3 -m venv "$dir/$1"; } &&
            "$dir/$1/bin/pip" install --quiet --only-binary :all: $2
        ;;
    esac >"$dir/$1.log" 2>&1
}

# try NAME PACKAGES COMMAND...: install and report; COMMAND begins with a file of the environment
try() {
    name=$1 packages=$2 program=$3
    shift 3
    if install "$name" "$packages"; then
        report "$name" "$packages" "$dir/$name/bin/$program" "$@"
    else
        echo "$name: could not be installed, see $dir/$name.log"
        failed=1
    fi
}

# report NAME WHAT COMMAND...: run, for $limit seconds at most, and say how it went
report() {
    name=$1 what=$2
    shift 2
    if timeout "$limit" "$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null; then
        echo "$name ($what): worked"
        sed 's/^/    /' "$dir/$name.out" | tail -n 4 | cut -c 1-160
    else
        echo "$name ($what): failed"
        cat "$dir/$name.out" "$dir/$name.err" | sed 's/^/    /' | tail -n 12 | cut -c 1-200
        failed=1
    fi
}

run() {
    limit=180
    case $1 in
    langchain) try langchain langchain-openai==1.7.4 python tests/clients/try_langchain.py ;;
    langchain-standard)
        limit=900
        try langchain-standard 'langchain-openai==1.7.4 langchain-tests==1.1.9' python -m pytest \
            -c tests/clients/langchain_standard/pytest.ini -p no:cacheprovider -q \
            tests/clients/langchain_standard/standard.py
        ;;
    litellm) try litellm litellm==1.110.2 python tests/clients/try_litellm.py ;;
    instructor) try instructor instructor==1.17.0 python tests/clients/try_instructor.py ;;
    pydantic-ai) try pydantic-ai 'pydantic-ai-slim[openai]==2.68.0' python tests/clients/try_pydantic_ai.py ;;
    llama-index) try llama-index llama-index-llms-openai-like==0.8.1 python tests/clients/try_llama_index.py ;;
    llm)
        LLM_USER_PATH=$(mktemp -d)
        export LLM_USER_PATH
        printf -- '- {model_id: corral, model_name: %s, api_base: "%s", supports_schema: true}\n' \
            "$MODEL" "$OPENAI_BASE_URL" >"$LLM_USER_PATH/extra-openai-models.yaml"
        try llm llm==0.36 llm -m corral --key "$OPENAI_API_KEY" -o temperature 0 -o max_tokens 60 \
            'Write one sentence about Paris.'
        rm -rf "$LLM_USER_PATH"
        ;;
    aider)
        export OPENAI_API_BASE="$OPENAI_BASE_URL"
        try aider aider-chat==0.86.2 aider --model "openai/$MODEL" --no-git --yes-always \
            --no-show-model-warnings --no-check-update --analytics-disable --map-tokens 0 \
            --input-history-file /dev/null --chat-history-file /dev/null --chat-mode ask --message 'Say hello.'
        ;;
    lm-eval)
        limit=600
        # Three of what it needs come as sources alone.
        try lm-eval 'lm-eval[api]==0.4.13 transformers==5.19.0 --no-binary=sqlitedict,rouge-score,word2number' \
            python tests/clients/lm_eval/try_lm_eval.py
        ;;
    eval-lm-eval)
        limit=600
        try eval-lm-eval "lm-eval[api]==0.4.13 openai==3.54.0 pydantic jinja2 typer --no-binary=sqlitedict,rouge-score,word2number" \
            python -m evaluation --runner lm-eval --models "$MODEL" --suite mathematics,knowledge --limit 2 \
            --base-url "$OPENAI_BASE_URL" --out "$(mktemp -d)"
        ;;
    eval-inspect)
        limit=600
        try eval-inspect 'inspect-ai==0.3.285 openai==3.54.0 pydantic jinja2 typer' \
            python -m evaluation --runner inspect --models "$MODEL" --suite mathematics,knowledge --limit 2 \
            --base-url "$OPENAI_BASE_URL" --out "$(mktemp -d)"
        ;;
    vllm-bench)
        limit=600
        report vllm-bench "in the server's environment" "$SERVER_PYTHON" tests/clients/try_vllm_bench.py
        ;;
    continue)
        CONTINUE_GLOBAL_DIR=$(mktemp -d)
        export CONTINUE_GLOBAL_DIR
        printf '%s\n' 'name: corral' 'version: 1.0.0' 'schema: v1' 'models:' '- name: Corral' \
            '  provider: openai' "  model: $MODEL" "  apiBase: $OPENAI_BASE_URL" \
            "  apiKey: $OPENAI_API_KEY" >"$CONTINUE_GLOBAL_DIR/config.yaml"
        try continue npm:@continuedev/cli@1.5.47 cn --print --config "$CONTINUE_GLOBAL_DIR/config.yaml" \
            'Say hello.'
        rm -rf "$CONTINUE_GLOBAL_DIR"
        ;;
    cline)
        data=$(mktemp -d) # with a folder of its own it leaves no daemon behind
        install cline npm:cline@3.0.65 && "$dir/cline/bin/cline" auth openai --apikey "$OPENAI_API_KEY" \
            --modelid "$MODEL" --baseurl "$OPENAI_BASE_URL" --data-dir "$data" >"$dir/cline.log"
        try cline npm:cline@3.0.65 cline --provider openai --model "$MODEL" --data-dir "$data" \
            --auto-approve false --timeout 170 'Say hello.'
        rm -rf "$data"
        ;;
    *)
        echo "there is no client '$1'" >&2
        exit 2
        ;;
    esac
}

[ $# -gt 0 ] || set -- langchain langchain-standard litellm instructor pydantic-ai llama-index llm aider \
    lm-eval eval-lm-eval eval-inspect vllm-bench continue cline
for client in "$@"; do
    run "$client"
done
exit $failed
