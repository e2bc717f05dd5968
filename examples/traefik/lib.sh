# Where clients come in, for the scripts of this example; they source it. POSIX sh.
# shellcheck shell=sh
#
# That is Traefik, at the port that Compose publishes: TRAEFIK_PORT from the environment, else from
# .env beside this file, else 80, as docker-compose.yml has it. GATEWAY in the environment is another
# address. The admin API is the gateway's own, and its address is not changed here.

# port_of_env_file: TRAEFIK_PORT in .env, without quotes and what is behind it; empty when it is not there.
port_of_env_file() {
    sed -n "s/^ *\(export  *\)\{0,1\}TRAEFIK_PORT *= *[\"']\{0,1\}\([0-9.:]*\).*/\2/p" \
        "$(dirname "$0")/.env" 2>/dev/null | tail -n 1
}

traefik_port=${TRAEFIK_PORT-$(port_of_env_file)}
# Compose takes "127.0.0.1:8080" too.
traefik_port=${traefik_port##*:}
case ${traefik_port:-80} in
    80) GATEWAY=${GATEWAY:-http://127.0.0.1} ;;
    *) GATEWAY=${GATEWAY:-http://127.0.0.1:$traefik_port} ;;
esac
export GATEWAY
