# SPDX-License-Identifier: Apache-2.0
# What the tests of the examples share; to be sourced. Everything that was started ends with the script.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pids=()
failed=0
clean_up() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
# start NAME COMMAND...: in the background; its port is then in $port, its pid in $pid, its output in $work/NAME.
start() {
    local name=$1
    shift
    "$@" >"$work/$name" 2>"$work/$name.err" &
    pid=$!
    pids+=("$pid")
    for _ in $(seq 100); do
        port=$(sed -n 's/^listening on port //p' "$work/$name" 2>/dev/null)
        [ -n "$port" ] && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start: $(cat "$work/$name.err")"
    exit 1
}
# stop PID: by SIGTERM; it must end well.
stop() {
    kill -TERM "$1"
    wait "$1" || { echo "FAIL: the program ended with status $?"; failed=1; }
}
# a port that nobody listens on
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
get() { curl -sS --max-time 10 "$@" 2>&1; }
# check WHAT WANT GOT: GOT contains WANT
check() {
    case $3 in
    *"$2"*) echo "ok: $1" ;;
    *) echo "FAIL: $1: wanted '$2', got '$3'"; failed=1 ;;
    esac
}
