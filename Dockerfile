# Images of the one static binary. Nothing is pulled and nothing is compiled here, so build it first:
#
#     cargo build --release
#     docker build -t wakegate .                            the gateway
#     docker build -t minionapp:latest --target minion .    the sample application
#
# On an Arm machine add: --build-arg BINARY=target/aarch64-unknown-linux-gnu/release/wakegate
#
# An image FROM scratch holds this one file: no shell, no /tmp, no CA bundle.
ARG BINARY=target/x86_64-unknown-linux-gnu/release/wakegate

FROM scratch AS minion
ARG BINARY
COPY ${BINARY} /wakegate
USER 65534:65534
EXPOSE 9000
ENTRYPOINT ["/wakegate", "minion"]

# The gateway runs as root because the engine's socket is root's. Whoever may use that socket
# rules the machine anyway; to narrow it, give it the group of the socket with --user 65534:<group>.
FROM scratch AS gateway
ARG BINARY
COPY ${BINARY} /wakegate
# Relative paths in gateway.toml start from its folder: mount scripts/ here too.
WORKDIR /etc/wakegate
EXPOSE 8000 8008
ENTRYPOINT ["/wakegate"]
CMD ["serve", "--config", "/etc/wakegate/gateway.toml"]
