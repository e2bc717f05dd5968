#!/usr/bin/env bash
# The gateway as a compose service: builds the images from target/, brings it up, uses it with the
# examples, and takes it down again.
#
#     cargo build --release && tests/compose.sh
#
# Needs a Docker engine, docker-compose (1.29 or 2), curl, jq and the ports 8000 and 8008.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
CONTAINERS+=(wakegate)

needs curl jq docker
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    fail "this needs docker-compose"
fi
compose+=(--project-name wakegate-compose-check)
nothing_there

binary=target/$(rustc -vV | sed -n 's/^host: //p')/release/wakegate
[ -x "$binary" ] || fail "there is no $binary (cargo build --release)"

tidy_up() {
    local code=$?
    if [ "$code" -ne 0 ]; then
        printf '%s\n' "== the gateway's log:" >&2
        docker logs --tail 100 wakegate >&2 || true
        docker ps --all >&2 || true
    fi
    "${compose[@]}" down >/dev/null 2>&1 || true
    sweep
    exit "$code"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

say "without a token it does not start"
unset WAKEGATE_ADMIN_TOKEN
if [ ! -e .env ] && "${compose[@]}" config >/dev/null 2>&1; then
    fail "docker-compose.yml was accepted without WAKEGATE_ADMIN_TOKEN"
fi
WAKEGATE_ADMIN_TOKEN=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
export WAKEGATE_ADMIN_TOKEN

say "building the images and starting the gateway"
"${compose[@]}" build --build-arg BINARY="$binary"
docker build --quiet --tag minionapp:latest --target minion --build-arg BINARY="$binary" . >/dev/null
"${compose[@]}" up -d
healthy() { [ "$(status "$ADMIN/healthz")" = 200 ]; }
within "$WAIT_SECONDS_MAX" "the gateway answers at $ADMIN/healthz" healthy

say "the admin API wants the token, and is published for this machine only"
expect_status 401 "$ADMIN/deploy"
published=$(docker port wakegate 8008/tcp)
[ "$published" = 127.0.0.1:8008 ] || fail "the admin port is published at $published"

say "create, use, sleep, wake, delete"
examples/create-minions.sh 3
examples/list-minions.sh
examples/test-minions.sh 3
sleeps_and_wakes
examples/delete-minions.sh 3

say "down"
"${compose[@]}" down
nothing_there
say "all is well"
