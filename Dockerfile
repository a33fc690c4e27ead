# The server alone: the binary, the C library it is linked to, and the certificates of the base.
#
#   docker build -t meridian .
#   docker run --read-only -v "$PWD/etc:/etc/meridian:ro" -p 53:53/udp -p 53:53/tcp meridian

# Builder and base are of the same Debian release, so that the C libraries match.
FROM rust:1-slim-bookworm AS build
WORKDIR /build

# Dependencies first, in a layer of their own that lasts until they change: they are compiled for
# an empty program. Tests, benchmarks and examples are not built here, so cargo is not told of them.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' Cargo.toml \
    && mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
COPY data data
# The empty program may be younger than the sources; cargo goes by times.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/meridian /meridian
COPY LICENSE NOTICE /
COPY data/dbip/LICENSE /LICENSE-dbip

# The base's `nonroot`, as a number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532

# What the allocator has free goes back to the system after so many milliseconds; by default a second.
ENV MIMALLOC_PURGE_DELAY=10
# No transparent huge pages, of which each holds two megabytes for as little as a page, where the node has
# them for all ("always" in /sys/kernel/mm/transparent_hugepage/enabled): a quarter more memory.
ENV MIMALLOC_ALLOW_THP=0

# DNS, and the HTTP pages.
EXPOSE 53/udp 53/tcp 9153/tcp

ENTRYPOINT ["/meridian"]
CMD ["serve", "--config", "/etc/meridian/meridian.yaml"]
