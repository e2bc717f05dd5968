# What the checks in this folder share; they source it. Bash, curl, jq and the docker command.
# shellcheck shell=bash

# Each of these is waited for so long, in seconds, and then it is a failure.
WAIT_SECONDS_MAX=${WAIT_SECONDS_MAX:-60}

# The examples read these two.
export GATEWAY=http://127.0.0.1:8000
export ADMIN=http://127.0.0.1:8008
WORKLOADS=(minion-1 minion-2 minion-3)
# Everything that a check makes; the service adds the gateway.
CONTAINERS=("${WORKLOADS[@]}")
NETWORK=traefiknet

say() { printf '%s\n' "-- $*"; }

fail() {
    printf '%s\n' "FAILED: $*" >&2
    exit 1
}

# needs COMMAND…: ends with one sentence when one is missing.
needs() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || fail "this needs the command $command"
    done
    docker version >/dev/null 2>&1 || fail "no Docker engine answers (try: docker version)"
}

# find_compose PROJECT [OPTION…]: how Compose is called here, in `compose`.
find_compose() {
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose=(docker-compose)
    else
        fail "this needs docker-compose"
    fi
    compose+=(--project-name "$@")
}

# find_binary: the binary that the images hold, in `binary`.
find_binary() {
    binary=target/$(rustc -vV | sed -n 's/^host: //p')/release/wakegate
    [ -x "$binary" ] || fail "there is no $binary (cargo build --release)"
}

# make_token: a token for the admin API, for Compose and for the examples.
make_token() {
    WAKEGATE_ADMIN_TOKEN=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    export WAKEGATE_ADMIN_TOKEN
}

gateway_answers() { [ "$(status "$ADMIN/healthz")" = 200 ]; }
until_gateway_answers() { within "$WAIT_SECONDS_MAX" "the gateway answers at $ADMIN/healthz" gateway_answers; }

# within SECONDS WHAT COMMAND…: repeats the command until it succeeds.
within() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited too long: $what"
        sleep 0.2
    done
}

fetch() { curl --silent --show-error --noproxy '*' --max-time "$WAIT_SECONDS_MAX" "$@"; }

# status URL [OPTION…]: the status code of the answer; 000 when there is none.
status() { fetch --output /dev/null --write-out '%{http_code}' "${@:2}" "$1" 2>/dev/null || true; }

expect_status() {
    local got
    got=$(status "$2" "${@:3}")
    [ "$got" = "$1" ] || fail "$2 answered $got, not $1"
}

# What the engine says, not the gateway.
is_running() { [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
is_stopped() { [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = false ]; }
all_running() { each is_running; }
all_stopped() { each is_stopped; }
each() {
    local name
    for name in "${WORKLOADS[@]}"; do "$1" "$name" || return 1; done
}

# nothing_there: the containers and the network that a check makes are not there.
nothing_there() {
    local name
    for name in "${CONTAINERS[@]}"; do
        if docker container inspect "$name" >/dev/null 2>&1; then
            fail "there is a container $name"
        fi
    done
    if docker network inspect "$NETWORK" >/dev/null 2>&1; then
        docker network inspect --format 'made {{.Created}}, labels {{.Labels}}, containers {{.Containers}}' "$NETWORK" >&2
        fail "there is a network $NETWORK"
    fi
}

# clear_ground: removes the containers and the network that have the checks' names, and what is on that
# network, and tells it. For a machine that is there for checks alone: a run that was cut off has no time
# to remove them, and the names of the first run and of the examples are what users see, not random ones.
clear_ground() {
    local name ids
    ids=$({
        for name in "${WORKLOADS[@]}" wakegate traefik; do
            docker ps --all --quiet --filter "name=^/$name\$"
        done
        docker ps --all --quiet --filter "network=$NETWORK"
        docker ps --all --quiet --filter label=wakegate.demo=true
    } | sort --unique)
    if [ -n "$ids" ]; then
        say "removed, of an earlier run that was cut off:"
        # shellcheck disable=SC2086  # one id each
        docker inspect --format '{{.Name}}, made {{.Created}}' $ids
        # shellcheck disable=SC2086
        docker rm --force $ids >/dev/null
    fi
    if docker network inspect "$NETWORK" >/dev/null 2>&1; then
        say "removed, of an earlier run that was cut off: the network $NETWORK"
        docker network inspect --format 'made {{.Created}}, labels {{.Labels}}' "$NETWORK"
        docker network rm "$NETWORK" >/dev/null
    fi
}

# Images that a check makes and that go with it.
images_made=()
# makes_images IMAGE…: those of them that are there already are somebody's, and stay.
makes_images() {
    local image
    for image in "$@"; do
        docker image inspect "$image" >/dev/null 2>&1 || images_made+=("$image")
    done
}

# sweep: removes them whatever happened. Only after nothing_there was true.
sweep() {
    docker rm --force "${CONTAINERS[@]}" >/dev/null 2>&1 || true
    docker network rm "$NETWORK" >/dev/null 2>&1 || true
    [ "${#images_made[@]}" = 0 ] || docker rmi "${images_made[@]}" >/dev/null 2>&1 || true
}

# sleeps_and_wakes: all three are stopped behind the gateway's back, and the next requests wake them.
sleeps_and_wakes() {
    docker stop "${WORKLOADS[@]}" >/dev/null
    all_stopped || fail "the engine did not stop ${WORKLOADS[*]}"
    examples/test-minions.sh 3
    all_running || fail "they answered, and the engine says that not all of them run"
}
