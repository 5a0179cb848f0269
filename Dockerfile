# shardis in a container:
#
#     docker build -t shardis .
#     docker run --security-opt seccomp=config/seccomp-io_uring.json -p 6379:6379 -v shardis:/data shardis
#
# The seccomp profile is needed because Docker's own refuses io_uring. Arguments replace the default ones:
#
#     docker run ... -v /path/to/shardis.conf:/etc/shardis/shardis.conf:ro shardis /etc/shardis/shardis.conf --shards 4
#
# The number of shards follows the CPUs that the container may use (--cpus, --cpuset-cpus).

FROM rust:1.95-slim-bookworm AS build
# jemalloc is built from source.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bins \
    && install -D -s target/release/shardis target/release/shardis-benchmark -t /image/usr/local/bin \
    && install -D -m 644 config/shardis.conf -t /image/etc/shardis \
    && install -d /image/data

# glibc and nothing else: no shell, no package manager. Its user `nonroot` is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr /usr
COPY --from=build /image/etc /etc
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
# Snapshots and logs go to the directory that the server is started in.
WORKDIR /data
VOLUME /data
EXPOSE 6379
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/local/bin/shardis", "--ping"]
ENTRYPOINT ["/usr/local/bin/shardis"]
# In a container all clients come from outside, and protected mode would refuse them. Who may reach the port is decided by
# what is published; give it a password where that is not enough.
CMD ["--protected-mode", "no"]
