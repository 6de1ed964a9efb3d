# syntax=docker/dockerfile:1
# Two stages: the first compiles from the lock file, the second holds the binary alone.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY migrations migrations
COPY policies policies
COPY src src
RUN cargo build --locked --release --bin sandyq

# glibc, for a PKCS#11 module of the maker's; no shell, no package manager; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/sandyq /usr/local/bin/sandyq
USER 65532:65532
EXPOSE 7443 9464
ENTRYPOINT ["/usr/local/bin/sandyq"]
CMD ["--help"]
