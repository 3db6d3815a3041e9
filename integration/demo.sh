#!/usr/bin/env bash
# Shows the bridge at work on a real Active Directory domain, step by step, and checks each step.
#
#   integration/demo.sh            installs what is missing, builds, shows, stops everything
#   KEEP=1 integration/demo.sh     the same, but leaves everything running to play with
#
# A lab that is up already (KCD_LAB, default target/lab) is used and left as it was.
# KCD_BRIDGE=FILE shows that binary instead of building one.
# Exit status: 0 all as expected, 1 something was not, 3 the machine lacks something.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
KCD_LAB=$(realpath -m "${KCD_LAB:-$ROOT/target/lab}")
readonly HERE ROOT KCD_LAB
export KCD_LAB
readonly WORK=$KCD_LAB/demo PKI=$KCD_LAB/pki
readonly LAB=$HERE/lab.sh
readonly HOST=bridge.corp.example PORT=8443
readonly URL=https://$HOST:$PORT/Microsoft-Server-ActiveSync
# shellcheck source=integration/lab/bridge.sh
. "$HERE/lab/bridge.sh"

if [ -t 1 ]; then
    readonly BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' DIM=$'\e[2m' PLAIN=$'\e[0m'
else
    readonly BOLD='' GREEN='' RED='' DIM='' PLAIN=''
fi

step=0
passed=0
failed=0
lab_is_ours=0

heading() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$BOLD" "$step" "$*" "$PLAIN"
}
command_line() { printf '   %s$ %s%s\n' "$DIM" "$*" "$PLAIN"; }
shown() { sed 's/^/   /'; }
good() {
    passed=$((passed + 1))
    printf '   %sas expected:%s %s\n' "$GREEN" "$PLAIN" "$*"
}
bad() {
    failed=$((failed + 1))
    printf '   %sNOT AS EXPECTED:%s %s\n' "$RED" "$PLAIN" "$*"
}
# quoted WORD...: as one would type them
quoted() {
    local word
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s' " "$word" ;;
            *) printf '%s ' "$word" ;;
        esac
    done
}
# expect WHAT COMMAND...: the command's success is the expectation
expect() {
    local what=$1
    shift
    if "$@" >/dev/null; then good "$what"; else bad "$what"; fi
}

# --- start and stop --------------------------------------------------------------------------

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    stop_bridge
    [ "$lab_is_ours" = 0 ] || "$LAB" down || true
    exit "$status"
}

# --- requests --------------------------------------------------------------------------------

# request NAME [curl option...]: with NAME's certificate; sets `code`, `headers`, `body`, `error`
request() {
    local name=$1 exit=0
    shift
    command_line "curl --cacert server-ca.pem --cert $name.pem --key $name.key $(quoted "$@")$URL"
    answer=$(
        inside curl -sS --max-time 30 -D "$WORK/headers" -o "$WORK/body" -w '%{http_code}' \
            --cacert "$PKI/server-ca.pem" --cert "$PKI/$name.pem" --key "$PKI/$name.key" \
            "$@" "$URL" 2>&1
    ) || exit=$?
    code=${answer: -3}
    error=${answer%???}
    error=${error%$'\n'}
    headers=$(inside cat "$WORK/headers" 2>/dev/null | tr -d '\r' || true)
    body=$(inside head -c 2000 "$WORK/body" 2>/dev/null | tr -d '\0' || true)
    inside rm -f "$WORK/headers" "$WORK/body"
    return $exit
}

# header NAME: its value in the last answer
header() { awk -v n="${1,,}:" 'tolower($1) == n { sub(/^[^:]*: */, ""); print; exit }' <<<"$headers"; }

audit() { inside /usr/bin/python3 "$HERE/lab/audit.py" "$WORK/audit.jsonl" "$@"; }

# reason_in_audit WHAT FIELD=VALUE...: shows stage, reason and detail of the event
reason_in_audit() {
    local what=$1 found
    shift
    if found=$(audit why "reason=*" "$@"); then
        printf '%s\n' "$found" | shown
        good "$what"
    else
        bad "$what"
    fi
}

# passes NAME METHOD [curl option...]: the request reaches the back end as NAME
passes() {
    local name=$1 method=$2 user
    shift 2
    heading "$method with the certificate of $name"
    if ! request "$name" -X "$method" "$@"; then
        printf '%s\n' "$error" | shown
        bad "an answer"
        return
    fi
    user=$(header X-Backend-User)
    printf 'HTTP %s\nX-Backend-User: %s\n' "$code" "$user" | shown
    [ "$code" = 200 ] || printf '%s\n' "$body" | shown
    # An enterprise name keeps its suffix inside the name: alice\@corp.example@CORP.EXAMPLE
    if [ "$code" = 200 ] && [[ "$user" =~ ^$name(@|\\+@) ]]; then
        good "the back end saw $name"
    else
        bad "HTTP 200 and the back end seeing $name"
    fi
}

show_steps() {
    passes alice OPTIONS
    passes alice POST -H 'Content-Type: application/vnd.ms-sync.wbxml' --data-binary 'from alice'
    expect "the body came back unchanged" test "$body" = 'from alice'
    passes bob OPTIONS
    passes bob POST -H 'Content-Type: application/vnd.ms-sync.wbxml' --data-binary 'from bob'
    expect "the body came back unchanged" test "$body" = 'from bob'

    heading 'The certificate of carol: the account is flagged "cannot be delegated"'
    local id
    if request carol -X OPTIONS; then
        id=$(header X-Kcd-Correlation-Id)
        printf 'HTTP %s\nX-Kcd-Correlation-Id: %s\n%s\n' "$code" "$id" "$body" | shown
        expect "refused with 403" test "$code" = 403
        expect "no request for credentials in the answer" test -z "$(header WWW-Authenticate)"
        reason_in_audit "the audit names the reason" outcome=refused principal=carol "correlation_id=$id"
    else
        printf '%s\n' "$error" | shown
        bad "an answer with a refusal"
    fi

    heading 'A certificate for alice from a CA that the bridge does not know'
    if request alice-foreign -X OPTIONS; then
        printf 'HTTP %s\n' "$code" | shown
        bad "the handshake refused"
    else
        printf '%s\n' "$error" | shown
        good "the handshake was refused"
        reason_in_audit "the audit names the stage and the reason" outcome=refused stage=tls
    fi

    heading 'What the audit file says'
    audit show | shown || true
    expect "alice's requests are in it" audit find principal=alice backend_status=200
    expect "bob's requests are in it" audit find principal=bob backend_status=200
}

# --- the whole -------------------------------------------------------------------------------

keep() {
    printf '\n%sLeft running.%s To play with it:\n\n' "$BOLD" "$PLAIN"
    printf '    KCD_LAB=%q %q run -- curl -i \\\n        --cacert %q \\\n        --cert %q --key %q \\\n        -X OPTIONS %s\n\n' \
        "$KCD_LAB" "$LAB" "$PKI/server-ca.pem" "$PKI/alice.pem" "$PKI/alice.key" "$URL"
    printf 'audit: %s\nlog:   %s\nstop everything: KCD_LAB=%q %q down\n' \
        "$WORK/audit.jsonl" "$WORK/bridge.log" "$KCD_LAB" "$LAB"
    disown "$bridge" 2>/dev/null || true
    bridge=
    lab_is_ours=0
}

main() {
    trap clean_up EXIT
    trap 'printf "\ndemo: interrupted, stopping everything\n" >&2; exit 130' INT TERM HUP
    cd "$ROOT"

    heading 'Install what is missing'
    "$HERE/install.sh"

    binary=${KCD_BRIDGE:-}
    if [ -z "$binary" ]; then
        heading 'Build'
        command_line 'cargo build --release'
        build_bridge
    fi

    heading 'Start a real Active Directory domain and a Negotiate-only back end'
    if "$LAB" status >/dev/null 2>&1; then
        "$LAB" status | shown
        if port_open; then
            printf 'demo: a bridge is running there already: stop it with: KCD_LAB=%q %q down\n' \
                "$KCD_LAB" "$LAB" >&2
            exit 1
        fi
    else
        lab_is_ours=1
        "$LAB" up
    fi

    heading 'Start the bridge'
    write_config
    command_line "kcd-bridge serve --config $WORK/kcd-bridge.toml"
    if start_bridge; then
        good "it listens on $HOST:$PORT"
        show_steps
    else
        bridge_log | shown
        bad "the bridge listening on $HOST:$PORT; its last words are above"
    fi

    printf '\n%sVerdict:%s %d as expected, %d not\n' "$BOLD" "$PLAIN" "$passed" "$failed"
    if [ "${KEEP:-0}" != 0 ] && [ -n "$bridge" ]; then
        keep
    fi
    [ "$failed" = 0 ]
}

main
