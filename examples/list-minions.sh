#!/bin/sh
# Lists what the gateway knows: examples/list-minions.sh
set -eu
. "$(dirname "$0")/lib.sh"
if [ $# -gt 0 ]; then
    complain "takes no arguments"
    exit 2
fi

admin GET /deploy
if [ "$STATUS" != 200 ]; then
    complain "$(why)"
    exit 1
fi
if command -v jq >/dev/null; then
    row='%-24s %-10s %-22s %s\n'
    # shellcheck disable=SC2059  # the format is the variable
    printf "$row" NAME PHASE ADDRESS IDLE
    printf '%s' "$ANSWER" | jq -r '
        .instances[]
        | [.name, .phase, .address // "-",
           if .idle_seconds then "\(.idle_seconds | floor) s" else "-" end]
        | @tsv' |
        while IFS='	' read -r name phase address idle; do
            # shellcheck disable=SC2059
            printf "$row" "$name" "$phase" "$address" "$idle"
        done
else
    # Without jq as it came, a container a line.
    printf '%s\n' "$ANSWER" | sed 's/},{"id"/},\
{"id"/g'
fi
