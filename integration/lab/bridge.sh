# Starts and stops the bridge in the lab; sourced by the scripts that show or measure it.
#
# Needs ROOT, KCD_LAB, LAB (lab.sh), PKI, PORT and WORK, a directory in the lab for the configuration,
# the log and the audit file. `bridge` is the process that stands for it here, `binary` what is run,
# `bridge_runner` a command that runs it, if it is set.
# shellcheck shell=bash disable=SC2034,SC2154

readonly START_DEADLINE=30
bridge=
bridge_runner=()

inside() { "$LAB" run -- "$@"; }

build_bridge() {
    cargo build --release --locked --bin kcd-bridge
    binary=${CARGO_TARGET_DIR:-$ROOT/target}/release/kcd-bridge
}

port_open() { inside timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT" 2>/dev/null; }

write_config() {
    inside install -d -m 0700 "$WORK"
    inside rm -rf "$WORK/runtime" "$WORK/audit.jsonl" "$WORK/bridge.log" "$WORK/bridge.pid"
    inside install -d -m 0700 "$WORK/runtime"
    inside tee "$WORK/kcd-bridge.toml" >/dev/null <<END
[listener]
address     = "127.0.0.1:$PORT"
certificate = "$PKI/server.pem"
key         = "$PKI/server.key"

[client_certificates]
trust_anchors = ["$PKI/device-ca.pem"]
revocation    = { policy = "require", crl_files = ["$PKI/device-ca.crl"] }

[kerberos]
principal = "svc-bridge@CORP.EXAMPLE"
keytab    = "$KCD_LAB/keytabs/bridge.keytab"
kdcs      = ["127.0.0.1"]

[server]
runtime_directory = "$WORK/runtime"

[audit]
file = "$WORK/audit.jsonl"

[[mapping]]
rule = "upn-with-sid"

[[backend]]
name      = "mbx1"
profile   = "generic"
url       = "http://mbx1.corp.example"
transport = "http"
spn       = "HTTP/mbx1.corp.example"

[[route]]
path    = "/Microsoft-Server-ActiveSync"
backend = "mbx1"
END
}

bridge_log() { inside tail -n 20 "$WORK/bridge.log" 2>/dev/null || true; }

start_bridge() {
    # A session of its own: Ctrl-C reaches this script, which then stops the bridge in order.
    # shellcheck disable=SC2016
    setsid "$LAB" run -- "${bridge_runner[@]}" bash -c '
        umask 077
        echo $$ >"$2/bridge.pid"
        exec "$1" serve --config "$2/kcd-bridge.toml" >"$2/bridge.log" 2>&1
    ' serve "$binary" "$WORK" </dev/null >/dev/null 2>&1 &
    bridge=$!
    local deadline=$((SECONDS + START_DEADLINE))
    until inside grep -qs listening "$WORK/bridge.log"; do
        running && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

running() { [ -n "$bridge" ] && [ -e "/proc/$bridge" ]; }

# signal_bridge NAME: by the number it wrote down itself, which through sudo is not that of our child
signal_bridge() {
    # shellcheck disable=SC2016
    inside bash -c '
        pid=$(cat "$1/bridge.pid") || exit 0
        grep -qsz -- "$1/kcd-bridge.toml" "/proc/$pid/cmdline" && kill -"$2" "$pid"
    ' signal "$WORK" "$1" 2>/dev/null || true
}

stop_bridge() {
    running || return 0
    local signal deadline
    for signal in TERM KILL; do
        signal_bridge "$signal"
        deadline=$((SECONDS + 10))
        while running && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
        running || break
    done
    bridge=
}
