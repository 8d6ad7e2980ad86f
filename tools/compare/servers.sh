# For the scripts beside it: servers on core 0, one after the other, and what is measured of them.
# shellcheck shell=bash

# The script says where the last server writes its log, and where the results go.
: "${log:=}" "${out:=}"

started=()

# Ends what was started here, and nothing else.
stop() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}

# up PORT: waits until something listens there.
up() {
    for _ in {1..100}; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
            return
        fi
        sleep 0.05
    done
    echo "nothing listens on port $1:" >&2
    cat "$log" >&2
    exit 1
}

# note RUN WORK SERVER JSON: one line for the table.
note() {
    echo "{\"run\":$1,\"work\":\"$2\",\"server\":\"$3\",\"told\":${4:-null}}" >>"$out"
    echo "run $1: $2, $3" >&2
}
