#!/bin/bash
# Proves that Corral's two commands work on a machine that has nothing: a minimal Debian root with
# python3, python3-venv, make, git, curl and ca-certificates; no compiler, no cache, no account.
#
#   scripts/bare-root.sh [create] [update] [install] [serve] [test] [shell] [destroy] [exec COMMAND]
#
#   create    debootstrap the root and clone this checkout's HEAD into it (DIRTY=1: with update)
#   update    lay this checkout's files over the clone, committed or not
#   install   `make install` there, with wall time and size
#   serve     `make serve`, the health check and one answer with curl; what is left after SIGTERM
#   test      `make test` (FAST=1 leaves out the real engine)
#   exec      any command, in the clone
#
# Needs root, debootstrap, chroot and mount. From the environment:
#   ROOT=/tmp/corral-bare   where the root is put
#   SUITE=bookworm          the Debian release
#   MIRROR=URL              a Debian mirror; without it, the one this machine's apt uses
#   BIND="/dir ..."         further directories of this machine to show in the root, read-only
#   COPY="/file ..."        files to copy to the same place: a pip.conf, certificates
#   PASS="NAME ..."         environment variables to hand on, such as HTTPS_PROXY
#   PORT=8000               where the server listens while it is tried
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
root=${ROOT:-/tmp/corral-bare}
suite=${SUITE:-bookworm}
port=${PORT:-8000}
packages=python3,python3-venv,make,git,curl,ca-certificates

say() { printf '== %s\n' "$*"; }

mirror() {
    if [ -n "${MIRROR:-}" ]; then
        echo "$MIRROR"
    else
        cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
            sed -nE "s/^URIs: *([^ ]+)/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p" |
            grep -E '/debian/?$' | head -n 1
    fi
}

mounts() { # the places inside the root that are shown from outside
    printf '%s\n' "$root/proc" "$root/dev" "$root/sys"
    for dir in ${BIND:-}; do printf '%s\n' "$root$dir"; done
}

mount_all() {
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    mountpoint -q "$root/dev" || mount --rbind --make-rslave /dev "$root/dev"
    mountpoint -q "$root/sys" || mount --rbind --make-rslave -o ro /sys "$root/sys"
    for dir in ${BIND:-}; do
        mkdir -p "$root$dir"
        mountpoint -q "$root$dir" || mount --bind -o ro "$dir" "$root$dir"
    done
}

unmount_all() {
    mounts | while read -r place; do
        if mountpoint -q "$place"; then umount --recursive --lazy "$place"; fi
    done
}
trap unmount_all EXIT

inside() { # run a command in the clone, with a clean environment
    local pass=() name
    for name in ${PASS:-}; do
        if [ -n "${!name:-}" ]; then pass+=("$name=${!name}"); fi
    done
    mount_all
    chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb \
        "${pass[@]}" /bin/sh -c "cd /root/corral && $*"
}

update() { # the files as they are in this checkout, committed or not
    git -C "$here" ls-files -z --cached --others --exclude-standard |
        tar -C "$here" --null --ignore-failed-read -T - -cf - | tar -C "$root/root/corral" -xf -
}

create() {
    if [ -e "$root" ]; then
        echo "$root is there already; run: $0 destroy" >&2
        exit 1
    fi
    say "debootstrap $suite"
    debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$(mirror)" >/dev/null
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    for file in ${COPY:-}; do
        mkdir -p "$root$(dirname "$file")"
        cp -aL "$file" "$root$file"
    done
    git clone --quiet --no-hardlinks "$here" "$root/root/corral"
    if [ -n "${DIRTY:-}" ]; then update; fi
    say "root: $(du -sxm "$root" | cut -f1) MB; compilers: $(
        inside 'ls /usr/bin /usr/local/bin' | grep -cE '^(gcc|g\+\+|cc|c\+\+|clang|tcc)(-[0-9]+)?$' || true)"
}

install() {
    local before=$SECONDS
    inside "make install"
    say "make install: $((SECONDS - before)) s; .venv: $(du -sm "$root/root/corral/.venv" | cut -f1) MB"
}

left() { # processes that still run inside the root
    local place count=0
    for place in /proc/[0-9]*/root; do
        if [ "$(readlink "$place" 2>/dev/null)" = "$root" ]; then count=$((count + 1)); fi
    done
    echo "$count"
}

serve() {
    local before=$SECONDS job pid question
    if curl -sS -o /dev/null "http://127.0.0.1:$port/" 2>/dev/null; then
        echo "port $port is taken; name another one: PORT=..." >&2
        exit 1
    fi
    rm -f "$root/tmp/make.pid"
    inside "echo \$\$ >/tmp/make.pid; exec make serve PORT=$port" &
    job=$!
    until curl -fsS "http://127.0.0.1:$port/health" >/dev/null 2>&1; do
        kill -0 "$job" 2>/dev/null || { say "make serve ended before it was healthy"; exit 1; }
        sleep 0.5
    done
    pid=$(cat "$root/tmp/make.pid")
    say "healthy after $((SECONDS - before)) s"
    question='{"model": "smollm2-135m-instruct", "stream": true, "temperature": 0, "max_tokens": 32,
        "messages": [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]}'
    printf '%s' "$question" >"$root/tmp/question.json"
    inside "curl -fsSN http://127.0.0.1:$port/v1/chat/completions \
        -H 'Content-Type: application/json' -d @/tmp/question.json" >"$root/tmp/answer"
    say "answered after $((SECONDS - before)) s"
    sed -n 's/.*"content": *"\([^"]*\)".*/\1/p' "$root/tmp/answer" | tr -d '\n'
    echo
    kill -TERM "$pid"
    wait "$job" || true
    for _ in $(seq 20); do if [ "$(left)" = 0 ]; then break; else sleep 0.5; fi; done
    say "ended; processes left in the root: $(left)"
    grep -q Paris "$root/tmp/answer"
}

[ $# -gt 0 ] || set -- create serve
while [ $# -gt 0 ]; do
    case $1 in
    create) create ;;
    update) update ;;
    install) install ;;
    serve) serve ;;
    test) inside "make test FAST=${FAST:-}" ;;
    shell) inside "exec /bin/sh" ;;
    exec) shift; inside "$*"; break ;;
    destroy) unmount_all; rm -rf --one-file-system "$root" ;;
    *) sed -n '2,20p' "$0" >&2; exit 2 ;;
    esac
    shift
done
