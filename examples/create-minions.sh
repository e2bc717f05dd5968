#!/bin/sh
# Creates and starts minion-1 to minion-N: examples/create-minions.sh [N, default 3]
set -eu
. "$(dirname "$0")/lib.sh"
count_from "$@"

failed=0
i=1
while [ "$i" -le "$COUNT" ]; do
    admin POST /deploy "{\"template\":\"minion\",\"vars\":{\"id\":\"$i\"}}"
    case $STATUS in
        201) echo "$(field name): created, $(field state), $GATEWAY/session/$(field name)/" ;;
        409) echo "minion-$i: is there already" ;;
        *)
            complain "minion-$i: $(why)"
            failed=$((failed + 1))
            ;;
    esac
    i=$((i + 1))
done
if [ "$failed" -gt 0 ]; then
    complain "$failed of $COUNT were not created"
    exit 1
fi
