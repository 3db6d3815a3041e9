#!/usr/bin/env bash
# Measures the bridge, with a fresh token on every request, against nginx as a plain mTLS reverse
# proxy: same machine, same load, the same Apache behind, taking turns within one run.
#
#   integration/bench.sh       ROUNDS=5 REQUESTS=20000 CONNECTIONS=32 can be set
#
# Apache checks a Kerberos token per request for the bridge and nothing for nginx, so the ratio
# holds that work too. KCD_BRIDGE=FILE measures that binary instead of building one.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
KCD_LAB=$(realpath -m "${KCD_LAB:-$ROOT/target/lab}")
readonly HERE ROOT KCD_LAB
export KCD_LAB
readonly WORK=$KCD_LAB/bench PKI=$KCD_LAB/pki
readonly LAB=$HERE/lab.sh
readonly PORT=8443 NGINX_PORT=8444
readonly ROUNDS=${ROUNDS:-5} REQUESTS=${REQUESTS:-20000} CONNECTIONS=${CONNECTIONS:-32}
# shellcheck source=integration/lab/bridge.sh
. "$HERE/lab/bridge.sh"

lab_is_ours=0
nginx=

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
    [ "$lab_is_ours" = 0 ] || "$LAB" down || true
    exit "$status"
}

start_nginx() {
    inside tee "$WORK/nginx.conf" >/dev/null <<END
daemon off;
pid $WORK/nginx.pid;
error_log $WORK/nginx.log warn;
worker_processes auto;
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
        ssl_protocols TLSv1.2 TLSv1.3;
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
    setsid "$LAB" run -- nginx -c "$WORK/nginx.conf" </dev/null >/dev/null 2>&1 &
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

# measure PORT: requests per second and the 99th percentile in ms
measure() {
    inside ab -q -k -n "$REQUESTS" -c "$CONNECTIONS" -E "$WORK/client.pem" \
        "https://127.0.0.1:$1/Microsoft-Server-ActiveSync/fast" >"$report" 2>&1 || {
        cat "$report" >&2
        fail "the load generator failed"
    }
    if grep -q 'Non-2xx' "$report" || ! grep -q 'Failed requests: *0$' "$report"; then
        cat "$report" >&2
        fail "requests failed"
    fi
    awk '/^Requests per second/ { rate = $4 } $1 == "99%" { slow = $2 } END { print rate, slow }' "$report"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

main() {
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    cd "$ROOT"
    if ! command -v ab >/dev/null || [ ! -x /usr/sbin/nginx ]; then
        fail "nginx or ab is missing: run integration/install.sh bench"
    fi
    binary=${KCD_BRIDGE:-}
    [ -n "$binary" ] || build_bridge
    if ! "$LAB" status >/dev/null 2>&1; then
        lab_is_ours=1
        "$LAB" up
    fi
    report=$(mktemp)

    write_config
    inside bash -c "cat '$PKI/alice.pem' '$PKI/alice.key' >'$WORK/client.pem'"
    start_nginx
    start_bridge || {
        bridge_log >&2
        fail "the bridge did not start"
    }

    printf '%d rounds of %d requests over %d connections\n\n' "$ROUNDS" "$REQUESTS" "$CONNECTIONS"
    printf '%5s  %26s  %26s  %6s\n' round 'nginx (1/s, p99 ms)' 'bridge (1/s, p99 ms)' ratio
    local round plain plain_slow fresh fresh_slow ratios=()
    measure $NGINX_PORT >/dev/null
    measure $PORT >/dev/null
    for round in $(seq "$ROUNDS"); do
        read -r plain plain_slow < <(measure $NGINX_PORT)
        read -r fresh fresh_slow < <(measure $PORT)
        ratios+=("$(awk -v a="$fresh" -v b="$plain" 'BEGIN { printf "%.3f", a / b }')")
        printf '%5d  %19s %6s  %19s %6s  %6s\n' "$round" \
            "$plain" "$plain_slow" "$fresh" "$fresh_slow" "${ratios[-1]}"
    done
    rm -f "$report"
    printf '\nbridge / nginx, median of %d rounds: %s\n' "$ROUNDS" "$(printf '%s\n' "${ratios[@]}" | median)"
}

main
