#!/bin/sh
# Asks minion-1 to minion-N through Traefik and checks that the right one answered:
# ./test-minions.sh [N, default 3]
#
# Tells when one was sent on: one that is awake answers at once; one that sleeps is woken by the gateway,
# which sends the client to the same URL when Traefik has its route.
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# Traefik listens and takes up the gateway's route a moment after both were started, and answers with its
# own 404 until then.
tries=0
until [ "$tries" -ge 20 ] || {
    ANSWER=$(curl --silent --noproxy '*' --max-time 5 "$GATEWAY/session/") && [ "$ANSWER" != "404 page not found" ]
}; do
    tries=$((tries + 1))
    sleep 0.5
done
exec "$(dirname "$0")/../test-minions.sh" "$@"
