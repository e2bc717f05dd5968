#!/usr/bin/env bash
# The first run as a newcomer sees it: starts the demonstration, uses it, looks at it through the
# engine's own eyes, ends it with Ctrl-C and checks that nothing stays behind.
#
#     tests/first-run.sh
#
# Needs a Docker engine, curl, jq, the ports 8000 and 8008, and about three minutes after the build.
# DEMO is the command that starts it, if it is to be another.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh

DEMO=${DEMO:-cargo run --release --locked -- demo}
# The first build is in it.
READY_SECONDS_MAX=${READY_SECONDS_MAX:-1200}
# The applications end themselves after a minute (IDLE=1m).
IDLE_SECONDS_MAX=${IDLE_SECONDS_MAX:-180}

needs curl jq docker
nothing_there

log=$(mktemp)
demo=
tidy_up() {
    local code=$?
    if [ -n "$demo" ] && kill -0 "$demo" 2>/dev/null; then
        kill -KILL -- "-$demo" 2>/dev/null || true
        wait "$demo" 2>/dev/null || true
    fi
    if [ "$code" -ne 0 ]; then
        printf '%s\n' "== the demonstration's output:" >&2
        tail -n 100 "$log" >&2
        printf '%s\n' "== docker ps -a:" >&2
        docker ps --all >&2 || true
    fi
    sweep
    rm -f "$log"
    exit "$code"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

say "starting: $DEMO"
# Job control gives it a process group of its own, in which Ctrl-C is not ignored.
set -m
# shellcheck disable=SC2086  # a command with its arguments
$DEMO >"$log" 2>&1 &
demo=$!
set +m
is_ready() {
    kill -0 "$demo" 2>/dev/null || fail "the demonstration ended before it was ready"
    grep -aq '^Ready:' "$log"
}
within "$READY_SECONDS_MAX" "the line 'Ready:'" is_ready
cat "$log"

say "the engine has what the demonstration told"
docker image inspect minionapp:latest >/dev/null || fail "there is no image minionapp:latest"
docker network inspect "$NETWORK" >/dev/null || fail "there is no network $NETWORK"
for name in "${WORKLOADS[@]}"; do
    docker ps --all --filter label=wakegate.demo=true --format '{{.Names}}' | grep -qx "$name" ||
        fail "there is no container $name with the label wakegate.demo=true"
    # One that never ran has the network's name, and no id of it yet.
    [ "$(docker inspect --format '{{.HostConfig.NetworkMode}}' "$name")" = "$NETWORK" ] ||
        fail "$name is not in the network $NETWORK"
done

say "the admin API lists them"
expect_status 200 "$ADMIN/healthz"
expect_status 200 "$ADMIN/readyz"
listed=$(fetch "$ADMIN/deploy" | jq -r '.instances[].name' | sort | xargs)
[ "$listed" = "${WORKLOADS[*]}" ] || fail "GET /deploy lists: $listed"
examples/list-minions.sh

say "awake or not, each answers as itself"
examples/test-minions.sh 3
within "$WAIT_SECONDS_MAX" "all three run" all_running

say "a request reaches the application unchanged"
sent=$(mktemp)
head -c 3000000 /dev/urandom >"$sent"
report=$(fetch --data-binary "@$sent" --header 'X-Here: there' "$GATEWAY/session/minion-2/a%2Fb?x=1&y=%20")
want=$(sha256sum <"$sent" | cut -d' ' -f1)
rm -f "$sent"
jq -e --arg sha256 "$want" '
    .method == "POST" and .path == "/session/minion-2/a%2Fb" and .query == "x=1&y=%20"
    and .body.length == 3000000 and .body.sha256 == $sha256
    and .headers["x-here"] == ["there"] and (.headers | has("x-forwarded-for"))' >/dev/null <<<"$report" ||
    fail "it was told: $report"

say "streams and websockets pass"
events=$(fetch --no-buffer "$GATEWAY/session/minion-1/events?every=50&count=5" | grep -c '^data:' || true)
[ "$events" = 5 ] || fail "$events events came, not 5"
# The connection stays open, so that curl ends it by its time limit.
switched=$(status "$GATEWAY/session/minion-1/echo" --max-time 5 --http1.1 \
    --header 'Connection: Upgrade' --header 'Upgrade: websocket' \
    --header 'Sec-WebSocket-Version: 13' --header 'Sec-WebSocket-Key: d2FrZWdhdGUgZmlyc3QgcnU=')
[ "$switched" = 101 ] || fail "the websocket's handshake was answered $switched"

say "what is not there is 404"
expect_status 404 "$GATEWAY/session/minion-99/"
expect_status 404 "$GATEWAY/nothing-here"

say "stopped by somebody else, they wake"
sleeps_and_wakes

say "20 requests at once to one that sleeps make one start"
docker stop minion-3 >/dev/null
before=$(date +%s.%N)
answers=$(mktemp -d)
requests=()
for i in $(seq 20); do
    fetch --fail --output "$answers/$i" "$GATEWAY/session/minion-3/" &
    requests+=("$!")
done
for request in "${requests[@]}"; do wait "$request" || fail "one of the 20 was not answered"; done
right=$(jq -r '.connstr' "$answers"/* | grep -cx 'db 3' || true)
rm -rf "$answers"
[ "$right" = 20 ] || fail "$right of 20 answers came from minion-3"
starts=$(docker events --since "$before" --until "$(($(date +%s) + 1))" \
    --filter container=minion-3 --filter event=start --format '{{.Action}}' | grep -c start || true)
[ "$starts" = 1 ] || fail "the engine started minion-3 $starts times"

say "left alone, they go to sleep (about a minute)"
within "$IDLE_SECONDS_MAX" "all three sleep" all_stopped
for name in "${WORKLOADS[@]}"; do
    [ "$(docker inspect --format '{{.State.ExitCode}}' "$name")" = 0 ] || fail "$name did not end cleanly"
done
examples/list-minions.sh
say "and wake again"
examples/test-minions.sh 3
all_running || fail "they answered, and the engine says that not all of them run"

say "Ctrl-C"
kill -INT -- "-$demo"
ended() { ! kill -0 "$demo" 2>/dev/null; }
within "$WAIT_SECONDS_MAX" "the demonstration ends after Ctrl-C" ended
code=0
wait "$demo" || code=$?
[ "$code" = 0 ] || fail "the demonstration ended with exit code $code"
demo=
nothing_there
[ "$(status "$GATEWAY/")" = 000 ] || fail "something still answers at $GATEWAY"
[ "$(status "$ADMIN/healthz")" = 000 ] || fail "something still answers at $ADMIN"
say "all is well"
