#!/bin/sh
# Drains, stops and removes minion-1 to minion-N: examples/delete-minions.sh [N, default 3]
set -eu
. "$(dirname "$0")/lib.sh"
count_from "$@"

failed=0
i=1
while [ "$i" -le "$COUNT" ]; do
    admin DELETE "/deploy/minion-$i"
    case $STATUS in
        200 | 204) echo "minion-$i: removed" ;;
        404) echo "minion-$i: was not there" ;;
        *)
            complain "minion-$i: $(why)"
            failed=$((failed + 1))
            ;;
    esac
    i=$((i + 1))
done
if [ "$failed" -gt 0 ]; then
    complain "$failed of $COUNT were not removed"
    exit 1
fi
