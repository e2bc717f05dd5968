#!/bin/sh
# Drains, stops and removes minion-1 to minion-N: ./delete-minions.sh [N, default 3]
set -eu
exec "$(dirname "$0")/../delete-minions.sh" "$@"
