#!/usr/bin/env bash
# Runs the whole verification of kcd-bridge, or the named parts of it.
#
#   integration/test.sh [install] [lint] [unit] [fuzz] [integration] [demo]
#
#   install      the Debian packages that are missing
#   lint         rustfmt, clippy and rustdoc, warnings denied, each counted as one test
#   unit         unit, property and documentation tests: need neither root nor the network
#   fuzz         every decoder of a peer's bytes under libFuzzer for FUZZ_SECONDS (default: 10), each
#                counted as one test
#   integration  tests against a real domain in a lab of their own
#   demo         the demonstration, without a terminal, counted as one test
#
# KCD_LAB names the lab's directory (default: target/test-lab); a lab that is up there already is
# used and left running. The last line is the sum: "N passed, N failed".
# Exit status: 0 all passed, 1 something failed, 2 usage, 130 interrupted.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
KCD_LAB=$(realpath -m "${KCD_LAB:-$ROOT/target/test-lab}")
readonly HERE ROOT KCD_LAB
export KCD_LAB
readonly LAB=$HERE/lab.sh

passed=0
failed=0
failures=()
lab_is_ours=0
scratch=

heading() { printf '\n== %s\n' "$*"; }

count_failure() {
    failed=$((failed + 1))
    failures+=("$1")
}

# counted NAME COMMAND...: the command as one test
counted() {
    local name=$1
    shift
    heading "$name: $*"
    if "$@"; then
        passed=$((passed + 1))
    else
        count_failure "$name"
    fi
}

# cargo_tests NAME COMMAND...: a run of cargo test, its own tests counted one by one
cargo_tests() {
    local name=$1 status=0 ok bad
    shift
    heading "$name: $*"
    "$@" 2>&1 | tee "$scratch/cargo" || status=$?
    read -r ok bad < <(awk '
        / test result: |^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) ok += $(i - 1)
                if ($i ~ /^failed/) bad += $(i - 1)
            }
        }
        END { print ok + 0, bad + 0 }' "$scratch/cargo")
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" != 0 ]; then
        failures+=("$name: $bad tests")
    elif [ "$status" != 0 ]; then
        # It did not compile, or died before it could say how many failed.
        count_failure "$name: $*"
    fi
}

# documented: rustdoc with warnings denied, private items included
documented() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
}

# A Cargo test target "integration", which `cargo test` alone does not run: it needs the lab.
has_integration_tests() {
    cargo metadata --locked --no-deps --format-version 1 |
        grep -q '"kind":\["test"\],"crate_types":\["bin"\],"name":"integration"'
}

ensure_lab() {
    if "$LAB" status >/dev/null 2>&1; then
        return
    fi
    lab_is_ours=1
    "$LAB" up
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    if [ "$lab_is_ours" = 1 ]; then
        "$LAB" down || true
        lab_is_ours=0
    fi
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit "$status"
}

part_lint() {
    counted fmt cargo fmt --check
    counted clippy cargo clippy --locked --all-targets -- -D warnings
    # Not among all targets: they are not built by `cargo test` alone.
    counted clippy-lab cargo clippy --locked --test integration --benches -- -D warnings
    counted doc documented
}

part_unit() { cargo_tests unit cargo test --locked; }

# fuzz.sh says a line a target, and builds once, before the first.
part_fuzz() {
    heading 'fuzz'
    local status=0 ok bad
    "$HERE/fuzz.sh" "${FUZZ_SECONDS:-10}" 2>&1 | tee "$scratch/fuzz" || status=$?
    ok=$(grep -c '^fuzz: .*nothing found$' "$scratch/fuzz" || true)
    bad=$(grep -c '^fuzz: .*FAILED' "$scratch/fuzz" || true)
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" != 0 ]; then
        failures+=("fuzz: $bad targets")
    elif [ "$status" != 0 ]; then
        count_failure 'fuzz: build'
    fi
}

part_integration() {
    if ! has_integration_tests; then
        heading 'integration: no such test target'
        ! compgen -G "$HERE/*.rs" >/dev/null || count_failure 'integration: tests, but no target for them'
        return
    fi
    heading 'integration: build'
    if ! cargo test --locked --no-run --test integration; then
        count_failure 'integration: build'
        return
    fi
    heading 'integration: lab'
    if ! ensure_lab; then
        count_failure 'integration: the lab did not come up'
        return
    fi
    # Offline: there is no way out of the lab's namespace.
    cargo_tests integration "$LAB" run -- \
        "$(command -v cargo)" test --locked --offline --test integration
}

part_demo() {
    heading 'demo: lab'
    if ! ensure_lab; then
        count_failure 'demo: the lab did not come up'
        return
    fi
    counted demo env KEEP=0 "$HERE/demo.sh"
}

main() {
    local parts=("$@") part
    [ ${#parts[@]} != 0 ] || parts=(install lint unit fuzz integration demo)
    for part in "${parts[@]}"; do
        if [ "$part" != install ] && ! declare -F "part_$part" >/dev/null; then
            printf 'usage: %s [install] [lint] [unit] [fuzz] [integration] [demo]\n' "$0" >&2
            exit 2
        fi
    done

    trap clean_up EXIT
    trap 'printf "\ntest: interrupted\n" >&2; exit 130' INT TERM HUP
    cd "$ROOT"
    scratch=$(mktemp -d)
    export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

    for part in "${parts[@]}"; do
        if [ "$part" != install ]; then
            "part_$part"
        elif ! "$HERE/install.sh"; then
            # Without its packages nothing that follows would say anything sensible.
            count_failure install
            break
        fi
    done

    if [ "$lab_is_ours" = 1 ]; then
        "$LAB" down || count_failure 'the lab did not go down'
        lab_is_ours=0
    fi
    printf '\n'
    [ ${#failures[@]} = 0 ] || printf 'FAILED %s\n' "${failures[@]}"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ] || exit 1
}

main "$@"
