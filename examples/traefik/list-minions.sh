#!/bin/sh
# Lists what the gateway knows: ./list-minions.sh
set -eu
exec "$(dirname "$0")/../list-minions.sh" "$@"
