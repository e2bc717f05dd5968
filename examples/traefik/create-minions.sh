#!/bin/sh
# Creates and starts minion-1 to minion-N, which Traefik then routes to: ./create-minions.sh [N, default 3]
set -eu
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
exec "$(dirname "$0")/../create-minions.sh" "$@"
