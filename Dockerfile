# syntax=docker/dockerfile:1

# Builds for whatever platform the image is built for: no target triple is named anywhere, so
# `docker buildx build --platform linux/amd64,linux/arm64 .` needs nothing more than this file.

# --- build ---------------------------------------------------------------------------------------
# The same Debian release as below: the binary links to its C library.
FROM rust:1-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY . .

# Dependencies are kept in cache mounts rather than in a layer of their own: a layer would need stub
# sources for every target that Cargo.toml names, and would be rebuilt whole for one new dependency.
# The target folder is kept apart per architecture, because one builder may serve several.
#
# The kept target folder outlives the source tree it was built from, and cargo compares times, not
# contents: without the touch an older checkout could be answered with the newer one's binary.
RUN --mount=type=cache,id=cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=crolang-broker-target-${TARGETARCH},target=/src/target,sharing=locked \
    touch src/main.rs src/lib.rs \
    && cargo build --release --locked --package crolang-broker --bin crolang-broker \
    && install -D target/release/crolang-broker /out/crolang-broker

# --- the example of webhooks -----------------------------------------------------------------------
# Only for `--target webhook-server`: the broker's own image takes nothing from here.
FROM build AS build-webhook-server
ARG TARGETARCH
RUN --mount=type=cache,id=cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=crolang-broker-target-${TARGETARCH},target=/src/target,sharing=locked \
    touch examples/webhook-server/main.rs \
    && cargo build --release --locked --package crolang-broker --example webhook-server \
    && install -D target/release/examples/webhook-server /out/webhook-server

FROM debian:bookworm-slim AS webhook-server
COPY --from=build-webhook-server /out/webhook-server /usr/local/bin/webhook-server
USER 10001:10001
# Its own default, localhost, would be nobody but the container itself.
ENV HOST=0.0.0.0
EXPOSE 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/webhook-server"]

# --- run -----------------------------------------------------------------------------------------
# Debian slim rather than a distroless image: its bash makes the health check below possible without
# another program, and a shell in the image helps whoever has to look at a broker that misbehaves.
FROM debian:bookworm-slim

# Webhooks and Redis may be reached over TLS, and the slim image trusts nobody.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE.md /usr/share/doc/crolang-broker/LICENSE.md
COPY --from=build /out/crolang-broker /usr/local/bin/crolang-broker

# A number, not a name: Kubernetes' runAsNonRoot can only check numbers. The user needs no entry in
# /etc/passwd and owns nothing in the image; the broker writes no files.
USER 10001:10001

# A `.env` mounted here is read at the start.
WORKDIR /app

EXPOSE 8080

# The broker drains on SIGTERM. It runs as process 1, so the signal reaches it without a shell between.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/crolang-broker"]

# Asks /health over bash's own /dev/tcp, since the image has neither curl nor wget. It looks at the
# container's PORT; with a PORT from a mounted `.env` file, override the check.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${PORT:-8080} && printf 'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]

# Last, so that a new version or commit rebuilds no layer above.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="crolang-broker" \
      org.opencontainers.image.description="A Socket.IO rendezvous broker for peer-to-peer programs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
