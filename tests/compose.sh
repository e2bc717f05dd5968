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
find_compose wakegate-compose-check
nothing_there
makes_images wakegate:latest minionapp:latest
find_binary

folder=$(mktemp -d)
tidy_up() {
    local code=$?
    if [ "$code" -ne 0 ]; then
        printf '%s\n' "== the gateway's log:" >&2
        docker logs --tail 100 wakegate >&2 || true
        docker ps --all >&2 || true
    fi
    remove_releases
    "${compose[@]}" down --volumes >/dev/null 2>&1 || true
    sweep
    rm -rf "$folder"
    exit "$code"
}
# Containers that the gateway made for an application of the check.
releases() { docker ps --all --quiet --filter label=wakegate.app=compose-check; }
remove_releases() { releases | xargs --no-run-if-empty docker rm --force >/dev/null 2>&1 || true; }
trap tidy_up EXIT
trap 'exit 130' INT TERM

say "without a token it does not start"
unset WAKEGATE_ADMIN_TOKEN
if [ ! -e .env ] && "${compose[@]}" config >/dev/null 2>&1; then
    fail "docker-compose.yml was accepted without WAKEGATE_ADMIN_TOKEN"
fi
make_token

say "building the images and starting the gateway"
"${compose[@]}" build --build-arg BINARY="$binary"
docker build --quiet --tag minionapp:latest --target minion --build-arg BINARY="$binary" . >/dev/null
"${compose[@]}" up -d
until_gateway_answers

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

say "a release is still the current one when the gateway's container is a new one"
mkdir "$folder/scripts"
printf '%s\n' 'route("/{*rest}", |req| app("compose-check"));' >"$folder/scripts/app.rhai"
{
    cat gateway.toml
    printf '\n[apps.compose-check]\n'
} >"$folder/gateway.toml"
cat >"$folder/override.yml" <<YAML
version: "3.8"
services:
  gateway:
    volumes:
      - $folder/scripts:/etc/wakegate/scripts:ro
      - $folder/gateway.toml:/etc/wakegate/gateway.toml:ro
YAML
with_app=("${compose[@]}" --file docker-compose.yml --file "$folder/override.yml")
"${with_app[@]}" up -d
until_gateway_answers
docker exec wakegate /wakegate deploy compose-check --image minionapp:latest --revision 1 --watch 0s
expect_status 200 "$GATEWAY/"
"${with_app[@]}" up -d --force-recreate
until_gateway_answers
expect_status 200 "$GATEWAY/"
[ "$(docker exec wakegate /wakegate history compose-check --json | jq length)" = 1 ] ||
    fail "the history was lost with the gateway's container"
[ "$(releases | wc -l)" = 1 ] || fail "there are other containers: $(docker ps --all)"
remove_releases

say "down"
"${compose[@]}" down --volumes
nothing_there
[ -z "$(releases)" ] || fail "a container of the check is still there: $(releases)"
say "all is well"
