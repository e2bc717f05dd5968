#!/usr/bin/env bash
# Feeds changed inputs to the script loader and to the shipped scripts for a while, and fails when
# one of them crashes or hangs. SECONDS_EACH: how long each target runs. Needs g++; installs
# cargo-fuzz where it is missing. What failed is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS_EACH=${SECONDS_EACH:-30}
# The same seed finds the same, as far as the time goes; another one looks elsewhere.
SEED=${SEED:-1}
# For one input, in seconds; the limits of the loader end it long before.
INPUT_SECONDS_MAX=20
INPUT_BYTES_MAX=4096
MEMORY_MIB_MAX=2048
# The instrumentation that it compiles with is not yet a stable option of the compiler.
export RUSTC_BOOTSTRAP=1

fail() {
    printf '%s\n' "FAILED: $*" >&2
    exit 1
}

[[ "$SECONDS_EACH" =~ ^[1-9][0-9]*$ ]] || fail "SECONDS_EACH is ${SECONDS_EACH@Q}, not a number of seconds"
command -v g++ >/dev/null || fail "this needs the command g++ (package g++)"
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
# The scripts directories that the loader is given are made below this.
export TMPDIR=$work

for target in load heads; do
    printf '%s\n' "-- fuzz $target for $SECONDS_EACH s"
    # What is found is interesting for a while, and not for the repository.
    cp -r "fuzz/corpus/$target" "$work/$target"
    cargo fuzz run --sanitizer none "$target" "$work/$target" -- \
        -max_total_time="$SECONDS_EACH" -timeout="$INPUT_SECONDS_MAX" -max_len="$INPUT_BYTES_MAX" \
        -rss_limit_mb="$MEMORY_MIB_MAX" -print_final_stats=1 -seed="$SEED" ||
        fail "fuzz $target: see fuzz/artifacts/$target (cargo fuzz run --sanitizer none $target FILE)"
done
