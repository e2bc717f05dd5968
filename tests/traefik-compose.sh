#!/usr/bin/env bash
# The gateway beside Traefik as examples/traefik has it: builds the images, brings both up, uses them
# with the example's scripts, and takes them down again.
#
#     cargo build --release && tests/traefik-compose.sh
#
# Traefik's image is made of the binary that .ci/run installs: nothing is pulled. Needs a Docker
# engine, docker-compose (1.29 or 2), curl, jq and the ports 8008 and 18080.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
CONTAINERS+=(wakegate traefik)
export TRAEFIK_PORT=18080
# For this file alone: the example's scripts find it out by TRAEFIK_PORT.
export -n GATEWAY
GATEWAY=http://127.0.0.1:$TRAEFIK_PORT
example=examples/traefik
traefik=${TRAEFIK_BIN:-target/test-tools/traefik/bin/traefik}
# The tag that the example names, which may be the user's own image.
image=$(sed -n 's/^ *image: \(traefik:.*\)$/\1/p' $example/docker-compose.yml)

needs curl jq docker
find_compose wakegate-traefik-check --file "$example/docker-compose.yml"
nothing_there
makes_images wakegate:latest minionapp:latest "$image"
[ -x "$traefik" ] || fail "there is no $traefik (.ci/run installs it)"
find_binary

folder=$(mktemp -d)
tidy_up() {
    local code=$?
    if [ "$code" -ne 0 ]; then
        printf '%s\n' "== the logs of Traefik and of the gateway:" >&2
        docker logs --tail 60 traefik >&2 || true
        docker logs --tail 60 wakegate >&2 || true
        docker ps --all >&2 || true
    fi
    "${compose[@]}" down --volumes >/dev/null 2>&1 || true
    sweep
    rm -rf "$folder"
    exit "$code"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

make_token

# As the example has it, but that Traefik may take longer for a route: past that time the gateway rightly
# answers itself, and the clients are not sent on.
cat >"$folder/override.yml" <<YAML
version: "3.8"
services:
  gateway:
    environment:
      WAKEGATE_TRAEFIK_ROUTE_TIMEOUT: 30s
YAML
compose+=(--file "$folder/override.yml")

# logged CONTAINER TEXT: whether its log has it. Read to its end: a pipe that is closed early is a failure.
logged() { grep -qF -- "$2" <<<"$(docker logs "$1" 2>&1)"; }

say "building the images"
if ! docker image inspect "$image" >/dev/null 2>&1; then
    cp "$traefik" "$folder/traefik"
    printf 'FROM scratch\nCOPY traefik /traefik\nENTRYPOINT ["/traefik"]\n' >"$folder/Dockerfile"
    docker build --quiet --tag "$image" "$folder" >/dev/null
fi
"${compose[@]}" build --build-arg BINARY="$binary" gateway
docker build --quiet --tag minionapp:latest --target minion --build-arg BINARY="$binary" . >/dev/null

say "starting Traefik and the gateway"
"${compose[@]}" up -d
until_gateway_answers
# The gateway's own 404, in its script's words, comes through Traefik.
routed() { [ "$(fetch "$GATEWAY/session/nobody/" 2>/dev/null)" = "there is no container nobody" ]; }
within "$WAIT_SECONDS_MAX" "Traefik routes to the gateway" routed
expect_status 404 "$GATEWAY/elsewhere"

say "create, list, use: Traefik goes straight to the containers"
created=$($example/create-minions.sh 3)
printf '%s\n' "$created"
grep -qF " $GATEWAY/session/minion-1/" <<<"$created" || fail "the URLs do not carry the port $TRAEFIK_PORT"
$example/list-minions.sh
# While Traefik has no route to a container that is awake, the gateway answers for it. A request is in
# the log a moment after its answer.
each_is_routed() {
    local name
    $example/test-minions.sh 3 >/dev/null 2>&1 || return 1
    for name in "${WORKLOADS[@]}"; do logged traefik "\"$name@docker\"" || return 1; done
}
within "$WAIT_SECONDS_MAX" "Traefik's log names the containers' routers" each_is_routed
answered=$($example/test-minions.sh 3)
printf '%s\n' "$answered"
[ "$(grep -c 'answered in' <<<"$answered")" = 3 ] || fail "not all of them answered"
! grep -q 'sent on' <<<"$answered" || fail "they did not go straight to the containers"
# The port may also come from .env beside the scripts; GATEWAY goes before it.
cp -R examples "$folder/examples"
printf 'WAKEGATE_ADMIN_TOKEN=none\nTRAEFIK_PORT=%s\n' "$TRAEFIK_PORT" >"$folder/$example/.env"
env -u TRAEFIK_PORT "$folder/$example/test-minions.sh" 3 >/dev/null || fail "the scripts do not read the port from .env"
refused=$(GATEWAY=http://127.0.0.1:1 "$folder/$example/test-minions.sh" 1 2>&1) && fail "GATEWAY is not what counts"
grep -qF "no answer from http://127.0.0.1:1 " <<<"$refused" || fail "GATEWAY is not what counts: $refused"

say "asleep, they are woken, and the clients sent on once"
docker stop "${WORKLOADS[@]}" >/dev/null
all_stopped || fail "the engine did not stop ${WORKLOADS[*]}"
# The gateway has it when Traefik has not; the request wakes this one. Where the gateway has not heard
# yet that it ended, it answers itself when it has woken it: once more then.
gone() {
    [ "$(status "$GATEWAY/session/minion-3/")" = 307 ] || {
        docker stop minion-3 >/dev/null
        return 1
    }
}
within "$WAIT_SECONDS_MAX" "Traefik has given up their routes" gone
answered=$($example/test-minions.sh 3)
printf '%s\n' "$answered"
all_running || fail "they answered, and the engine says that not all of them run"
sent_on=$(grep -c 'sent on 1 times' <<<"$answered" || true)
[ "$sent_on" -ge 2 ] || fail "only $sent_on of 3 were sent on"
# By name, as the engine's own resolver tells it, and from an image without anything else in it.
# A single slow answer is told too, and the next one then as well.
asked=$(docker logs wakegate 2>&1 | grep -E 'cannot be asked|answers again' | tail -n 1 || true)
! grep -qF 'cannot be asked' <<<"$asked" || fail "the gateway does not reach Traefik's API: $asked"

say "delete, down"
$example/delete-minions.sh 3
"${compose[@]}" down --volumes
nothing_there
say "all is well"
