#!/usr/bin/env bash
# Throws bytes at every decoder of what a peer chooses (libFuzzer), from the corpora in tests/fuzz/corpus.
#
#   integration/fuzz.sh [SECONDS] [TARGET...]    each target, or those named, for that long (default: 10)
#
# Everything that has once been found goes into target/fuzz/corpus and is tried again. An input that
# makes a decoder panic, hang or swell is kept in target/fuzz/artifacts and named. Built with the
# compiler that builds the bridge. Exit status: 0 nothing found, 1 something was, 2 usage.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly ROOT=${HERE%/*}
readonly FUZZ=$ROOT/tests/fuzz
readonly BUILT=${CARGO_TARGET_DIR:-$ROOT/target}/fuzz
readonly MAX_LENGTH=16384
readonly MAX_MEGABYTES=1024
readonly MAX_SECONDS=5

say() { printf 'fuzz: %s\n' "$*"; }

usage() {
    printf 'usage: %s [SECONDS] [TARGET...]\n' "$0" >&2
    exit 2
}

# As cargo-fuzz does it, without a sanitizer: the bridge's decoders are safe Rust, and its panics abort.
build() {
    local host flags
    host=$(rustc -vV | sed -n 's/^host: //p')
    flags=(--cfg fuzzing -Cpasses=sancov-module
        -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares)
    # Named as a target, the host's build scripts are built without those flags.
    RUSTFLAGS="${flags[*]}" cargo build --quiet --release --target "$host" --target-dir "$BUILT" \
        --manifest-path "$FUZZ/Cargo.toml"
    program=$BUILT/$host/release/decoders
}

# fuzz TARGET SECONDS
fuzz() {
    local target=$1 seconds=$2
    local log=$BUILT/logs/$target found=$BUILT/corpus/$target seeds=$FUZZ/corpus/$target
    mkdir -p "$BUILT/logs" "$BUILT/artifacts" "$found" "$seeds"
    if KCD_FUZZ=$target "$program" "$found" "$seeds" -max_total_time="$seconds" -max_len=$MAX_LENGTH \
        -rss_limit_mb=$MAX_MEGABYTES -timeout=$MAX_SECONDS -artifact_prefix="$BUILT/artifacts/$target-" \
        -print_final_stats=1 >"$log" 2>&1; then
        say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "$(find "$found" "$seeds" -type f | wc -l) kept, nothing found"
    else
        tail -n 30 "$log" >&2
        say "$target: FAILED; its log: $log"
        return 1
    fi
}

main() {
    local seconds=10 targets failed=0 target
    [[ ${1:-} =~ ^[0-9]+$ ]] && seconds=$1 && shift
    build
    mapfile -t targets < <("$program" --targets)
    for target in "$@"; do
        [[ " ${targets[*]} " == *" $target "* ]] || usage
    done
    [ $# = 0 ] || targets=("$@")
    for target in "${targets[@]}"; do
        fuzz "$target" "$seconds" || failed=1
    done
    return $failed
}

main "$@"
