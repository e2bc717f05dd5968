# What the examples share; they source it. POSIX sh and curl, and jq where it is there.
# shellcheck shell=sh
#
# From the environment:
#   ADMIN                 the admin API, default http://127.0.0.1:8008
#   GATEWAY               the public listener, default http://127.0.0.1:8000
#   WAKEGATE_ADMIN_TOKEN  the admin API's token, when it has one
#
# Exit codes of the examples: 0 all went well, 1 something did not, 2 they were called wrongly.

ADMIN=${ADMIN:-http://127.0.0.1:8008}
GATEWAY=${GATEWAY:-http://127.0.0.1:8000}
ADMIN=${ADMIN%/}
GATEWAY=${GATEWAY%/}

# The longest that one call may take, in seconds: a request may be held while its container wakes.
CALL_SECONDS_MAX=120

command -v curl >/dev/null || {
    echo "${0##*/}: this needs curl" >&2
    exit 2
}

# complain MESSAGE: tells it on stderr.
complain() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# count_from "$@": COUNT from a script's arguments, default 3.
count_from() {
    COUNT=${1:-3}
    case $COUNT in
        *[!0-9]* | 0* | ?????*)
            complain "how many? \"$COUNT\" is not a number from 1 to 9999"
            exit 2
            ;;
    esac
    if [ $# -gt 1 ]; then
        complain "one argument is enough: how many"
        exit 2
    fi
}

# await_gateway: one that was started just now may not listen yet. Some ten seconds where it is refused,
# at most two minutes where nobody answers, then it is not there.
await_gateway() {
    tries=0
    until curl --silent --noproxy '*' --max-time 5 --output /dev/null "$ADMIN/healthz" || [ "$tries" -ge 20 ]; do
        tries=$((tries + 1))
        sleep 0.5
    done
    awaited=yes
}

# admin METHOD PATH [JSON]: calls the admin API; sets STATUS and ANSWER. Ends the script when
# nobody answers or the token is wrong. The token goes to curl on stdin: a command line is public.
admin() {
    [ -n "${awaited:-}" ] || await_gateway
    set -- "$1" "$ADMIN$2" "${3:-}"
    if [ -n "$3" ]; then
        set -- "$1" "$2" --header 'Content-Type: application/json' --data "$3"
    else
        set -- "$1" "$2"
    fi
    method=$1 url=$2
    shift 2
    ANSWER=$(
        if [ -n "${WAKEGATE_ADMIN_TOKEN:-}" ]; then
            printf 'header = "Authorization: Bearer %s"\n' "$(printf %s "$WAKEGATE_ADMIN_TOKEN" | sed 's/[\\"]/\\&/g')"
        fi | curl --config - --silent --noproxy '*' --max-time "$CALL_SECONDS_MAX" \
            --request "$method" --write-out '\n%{http_code}' "$@" "$url"
    ) || {
        complain "no gateway answers at $ADMIN (curl: exit code $?); is it running? (README.md tells how to start it)"
        exit 1
    }
    STATUS=${ANSWER##*
}
    ANSWER=${ANSWER%
*}
    if [ "$STATUS" = 401 ]; then
        complain "$ADMIN wants its token: set WAKEGATE_ADMIN_TOKEN"
        exit 1
    fi
}

# field NAME: a text of the JSON object in ANSWER; empty when there is none.
field() {
    if command -v jq >/dev/null; then
        printf '%s' "$ANSWER" | jq -r --arg name "$1" '.[$name] // empty' 2>/dev/null || true
    else
        printf '%s' "$ANSWER" | tr -d '\n' |
            sed -nE 's/.*"'"$1"'" *: *"(([^"\\]|\\.)*)".*/\1/p' | sed 's/\\\(["\\]\)/\1/g'
    fi
}

# why: the reason in ANSWER, a problem (RFC 9457), or whatever it is.
why() {
    detail=$(field detail)
    printf '%s: %s' "$STATUS" "${detail:-$ANSWER}"
}
