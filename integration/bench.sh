#!/usr/bin/env bash
# Measures on one machine in one run, so that only ratios count:
#
#   certificates  a known certificate on every request, a full handshake, a CRL of a million entries
#   acquisition  the engine against a real KDC beside the least that libkrb5 needs; crowds, memory, hits, silence
#   tokens    both token engines on one thread and on two, and the memory of a cached user
#   proxies   the bridge with a fresh token on every request, and nginx as a plain mTLS reverse
#             proxy, in front of the same Apache under the same load, taking turns
#
#   integration/bench.sh       ROUNDS=5 REQUESTS=10000 CONNECTIONS=32 can be set
#
# In the main comparison Apache serves both proxies without looking at tokens, so that both make it
# do the same. The second row is the bridge in front of the Apache that checks the token of every
# request, which holds that work too. Both proxies speak the same TLS and have one core to themselves,
# load generator and Apache another one, where the machine has two. The text goes to standard output,
# the figures also to bench.json in the build directory.
# KCD_BRIDGE=FILE measures that binary instead of building one.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
KCD_LAB=$(realpath -m "${KCD_LAB:-$ROOT/target/lab}")
readonly HERE ROOT KCD_LAB
export KCD_LAB
readonly WORK=$KCD_LAB/bench PKI=$KCD_LAB/pki
readonly LAB=$HERE/lab.sh
# shellcheck disable=SC2034  # of lab/bridge.sh
readonly PORT=8443
readonly NGINX_PORT=8444
readonly ROUNDS=${ROUNDS:-5} REQUESTS=${REQUESTS:-10000} CONNECTIONS=${CONNECTIONS:-32}
readonly RESULT=${CARGO_TARGET_DIR:-$ROOT/target}/bench.json
# shellcheck source=integration/lab/bridge.sh
. "$HERE/lab/bridge.sh"

lab_is_ours=0
nginx=
load_runner=()
apache_cores=

fail() {
    printf 'bench: %s\n' "$@" >&2
    exit 1
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    stop_bridge
    if [ -n "$nginx" ]; then
        # shellcheck disable=SC2016
        inside bash -c 'kill -QUIT "$(cat "$1")"' stop "$WORK/nginx.pid" 2>/dev/null || true
    fi
    [ -z "$apache_cores" ] || pin_apache "$apache_cores" || true
    [ "$lab_is_ours" = 0 ] || "$LAB" down || true
    exit "$status"
}

# --- cores -----------------------------------------------------------------------------------

apache_pid() { awk '$1 == "apache" { print $2 }' "$KCD_LAB/state/processes"; }

# pin_apache CORES: every process and thread of it
pin_apache() {
    # shellcheck disable=SC2016
    inside bash -c '
        for pid in "$1" $(cat "/proc/$1/task/$1/children"); do
            taskset -a -p -c "$2" "$pid" >/dev/null || exit 1
        done
    ' pin "$(apache_pid)" "$1"
}

# The first two cores this process may use: one for the proxies, one for what is around them.
divide_cores() {
    local allowed cores=()
    allowed=$(taskset -p -c $$ | sed 's/.*: //')
    mapfile -t cores < <(tr ',' '\n' <<<"$allowed" | awk -F - '{ for (c = $1; c <= ($2 == "" ? $1 : $2); c++) print c }')
    if [ ${#cores[@]} -lt 2 ]; then
        echo 'bench: only one core: proxies, load generator and Apache share it'
        return
    fi
    bridge_runner=(taskset -c "${cores[0]}")
    load_runner=(taskset -c "${cores[1]}")
    apache_cores=$allowed
    pin_apache "${cores[1]}"
}

# --- the proxies -----------------------------------------------------------------------------

# The Apache that looks at no token; the route for its host comes before the one for any host.
add_plain_backend() {
    inside tee -a "$WORK/kcd-bridge.toml" >/dev/null <<END

[[backend]]
name      = "plain"
url       = "http://127.0.0.1:8081"
transport = "http"
spn       = "HTTP/mbx1.corp.example"
mutual    = "tolerate-absence"

[[route]]
host    = "plain.corp.example"
path    = "/Microsoft-Server-ActiveSync"
backend = "plain"
END
}

start_nginx() {
    inside tee "$WORK/nginx.conf" >/dev/null <<END
daemon off;
pid $WORK/nginx.pid;
error_log $WORK/nginx.log warn;
worker_processes 1;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $WORK/nginx-temp;
    proxy_temp_path $WORK/nginx-temp;
    fastcgi_temp_path $WORK/nginx-temp;
    uwsgi_temp_path $WORK/nginx-temp;
    scgi_temp_path $WORK/nginx-temp;
    upstream apache {
        server 127.0.0.1:8081;
        keepalive 128;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:$NGINX_PORT ssl;
        ssl_certificate $PKI/server.pem;
        ssl_certificate_key $PKI/server.key;
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
        ssl_ecdh_curve X25519;
        ssl_client_certificate $PKI/device-ca.pem;
        ssl_crl $PKI/device-ca.crl;
        ssl_verify_client on;
        location / {
            proxy_pass http://apache;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
    }
}
END
    setsid "$LAB" run -- "${bridge_runner[@]}" nginx -c "$WORK/nginx.conf" </dev/null >/dev/null 2>&1 &
    nginx=$!
    local deadline=$((SECONDS + START_DEADLINE))
    until inside timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$NGINX_PORT" 2>/dev/null; do
        if [ ! -e "/proc/$nginx" ] || [ $SECONDS -ge $deadline ]; then
            inside tail -n 5 "$WORK/nginx.log" >&2 || true
            nginx=
            fail "nginx did not start"
        fi
        sleep 0.1
    done
}

# --- measuring -------------------------------------------------------------------------------

# bench NAME [RUNNER...]: offline, there is no way out of the lab's namespace; figures in NAME.json
bench() {
    local name=$1
    shift
    KCD_BENCH_JSON=$WORK/$name.json KCD_BENCH_ROUNDS=$ROUNDS KCD_BENCH_REQUESTS=$REQUESTS \
        KCD_BENCH_CONNECTIONS=$CONNECTIONS \
        inside "$@" "$(command -v cargo)" bench --locked --offline --quiet --bench "$name"
}

main() {
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    cd "$ROOT"
    [ -x /usr/sbin/nginx ] || fail "nginx is missing: run integration/install.sh bench"
    binary=${KCD_BRIDGE:-}
    [ -n "$binary" ] || build_bridge
    cargo bench --locked --no-run --bench certificates --bench tokens --bench acquisition --bench proxies
    if ! "$LAB" status >/dev/null 2>&1; then
        lab_is_ours=1
        "$LAB" up
    fi
    write_config
    add_plain_backend

    bench certificates
    bench tokens
    bench acquisition
    divide_cores
    start_nginx
    start_bridge || {
        bridge_log >&2
        fail "the bridge did not start"
    }
    bench proxies "${load_runner[@]}"
    printf '{"version":1,"pinned_to_cores":%s,"certificates":%s,"tokens":%s,"acquisition":%s,"proxies":%s}\n' \
        "$([ -n "$apache_cores" ] && echo true || echo false)" \
        "$(inside cat "$WORK/certificates.json")" "$(inside cat "$WORK/tokens.json")" "$(inside cat "$WORK/acquisition.json")" "$(inside cat "$WORK/proxies.json")" >"$RESULT"
    printf '\nfigures: %s\n' "$RESULT"
}

main
