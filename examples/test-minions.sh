#!/bin/sh
# Asks minion-1 to minion-N at GATEWAY, where those that sleep are woken, follows redirects, and checks
# that the right one answered: examples/test-minions.sh [N, default 3]
set -eu
. "$(dirname "$0")/lib.sh"
count_from "$@"

failed=0
i=1
while [ "$i" -le "$COUNT" ]; do
    path=/session/minion-$i/
    # The last line is curl's: status, seconds, redirects.
    if ANSWER=$(curl --silent --noproxy '*' --location --max-redirs 5 --max-time "$CALL_SECONDS_MAX" \
        --header 'Accept: application/json' \
        --write-out '\n%{http_code} %{time_total} %{num_redirects}' "$GATEWAY$path"); then
        measured=${ANSWER##*
}
        ANSWER=${ANSWER%
*}
        STATUS=${measured%% *}
        millis=$(echo "$measured" | awk '{ printf "%.0f", $2 * 1000 }')
        case ${measured##* } in
            0) sent_on= ;;
            *) sent_on=", sent on ${measured##* } times" ;;
        esac
        if [ "$STATUS" != 200 ]; then
            problem=$(why)
        elif [ "$(field connstr)" != "db $i" ]; then
            problem="another one answered: CONNSTR is \"$(field connstr)\" and not \"db $i\""
        elif [ "$(field path)" != "$path" ]; then
            problem="asked for $path, it was asked for \"$(field path)\""
        else
            problem=
            echo "minion-$i: answered in $millis ms$sent_on (host $(field hostname))"
        fi
    else
        code=$?
        problem="no answer from $GATEWAY (curl: exit code $code); is there anything at that address?"
    fi
    if [ -n "$problem" ]; then
        complain "minion-$i: $problem"
        failed=$((failed + 1))
    fi
    i=$((i + 1))
done
if [ "$failed" -gt 0 ]; then
    complain "$failed of $COUNT did not answer as they should"
    exit 1
fi
