# The broker in an image with nothing else: one static program, certificates, and a folder for data.
#
#   docker build --tag crolang-broker .
#
# Any builder will do: no frontend is fetched, and no cache mounts are used. Other platforms are cross-built,
# which needs BuildKit. Without a network: `cargo vendor`, with what it prints in .cargo/config.toml, and
# RUST_IMAGE from a mirror.
ARG RUST_IMAGE=rust:1-bookworm

# --- what the dependencies are built from --------------------------------------------------------
# Manifests and empty sources. The layer that is built from them is used again until a manifest changes,
# because its key is what is copied, not the step that made it.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN mkdir /manifests \
    && find . -maxdepth 1 '(' -name .cargo -o -name vendor ')' -exec cp --recursive '{}' /manifests/ ';' \
    && find . -path ./vendor -prune -o '(' -name Cargo.toml -o -name Cargo.lock ')' -exec cp --parents '{}' /manifests/ ';' \
    && find . -path ./vendor -prune -o -regextype posix-extended \
        -regex '.*/(src/(lib|main)|(benches|examples|tests)/([^/]*|[^/]*/main))[.]rs' -print \
    | while read -r root; do mkdir -p "/manifests/${root%/*}" && echo 'fn main() {}' >"/manifests/$root"; done

# --- build ---------------------------------------------------------------------------------------
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${RUST_IMAGE} AS dependencies
ARG TARGETARCH
ARG TARGETVARIANT
# Cargo features of the broker, separated by commas: webrtc.
ARG FEATURES=
WORKDIR /src
COPY scripts/build-static scripts/build-static
COPY --from=manifests /manifests .
# A builder that names no target builds for this machine.
RUN echo "${TARGETARCH:-$(dpkg --print-architecture)}${TARGETVARIANT}" >/architecture \
    && scripts/build-static "$(cat /architecture)" --features "$FEATURES" --package crolang-broker --bin crolang-broker

FROM dependencies AS build
COPY crates crates
COPY src src
# Cargo compares times, and the sources may be older than the empty ones that were just built.
RUN find crates src -name '*.rs' -exec touch '{}' + \
    && scripts/build-static "$(cat /architecture)" --features "$FEATURES" --package crolang-broker --bin crolang-broker \
    && install -D target/*/release/crolang-broker /out/usr/local/bin/crolang-broker
# Webhooks and Redis may be reached over TLS.
RUN install -D --mode=644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && mkdir -p /out/app /data \
    # STORAGE_PATH's default is data.db in the working directory. A link, not a variable, so that a `.env` file
    # can still set it.
    && ln -s /data/data.db /out/app/data.db
COPY LICENSE.md /out/usr/share/doc/crolang-broker/LICENSE.md

# --- the example of webhooks -----------------------------------------------------------------------
# Only for `--target webhook-server`: the broker's own image takes nothing from here.
FROM dependencies AS build-webhook-server
RUN scripts/build-static "$(cat /architecture)" --package crolang-broker --example webhook-server
# It uses nothing of the broker, whose sources stay empty here.
COPY examples/webhook-server examples/webhook-server
RUN find examples -name '*.rs' -exec touch '{}' + \
    && scripts/build-static "$(cat /architecture)" --package crolang-broker --example webhook-server \
    && install -D target/*/release/examples/webhook-server /out/webhook-server

FROM scratch AS webhook-server
COPY --from=build-webhook-server /out/webhook-server /usr/local/bin/webhook-server
USER 10001:10001
# Its own default, localhost, would be nobody but the container itself.
ENV HOST=0.0.0.0
EXPOSE 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/webhook-server"]

# --- run -----------------------------------------------------------------------------------------
FROM scratch
COPY --from=build /out/ /
# A fresh volume takes its owner from here.
COPY --from=build --chown=10001:10001 /data /data

# A number, not a name: Kubernetes' runAsNonRoot can only check numbers.
USER 10001:10001

# A `.env` mounted here is read at the start.
WORKDIR /app
VOLUME /data
EXPOSE 8080

# The broker drains on SIGTERM. It runs as process 1, so the signal reaches it without a shell between.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/crolang-broker"]

# Finds where the broker or the peer listens, whatever PORT is and wherever it is set.
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/crolang-broker", "health"]

# Last, so that a new version or commit rebuilds no layer above.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="crolang-broker" \
      org.opencontainers.image.description="A Socket.IO rendezvous broker for peer-to-peer programs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
