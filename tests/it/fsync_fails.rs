//! A disk that takes what is written and does not keep it: `fsync` answers EIO. Nothing is acknowledged from then on, also when the
//! disk says that all is well again, since what the kernel let go of it never writes (`fsync` is SQLite's own call: a library before
//! the C library's answers it while a file is there).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sandyq::grpc::pb::{self, vault_service_client::VaultServiceClient};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::common::{
    child::Server,
    metrics::{Ready, health, says},
    people::{iin, tokenize_request},
    served::{detokenize_request, initialised, reason},
};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int answer(const char *name, int fd) {
    const char *file = getenv("SANDYQ_TEST_FSYNC_FAILS");
    if (file && access(file, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return answer("fsync", fd); }
int fdatasync(int fd) { return answer("fdatasync", fd); }
"#;

/// Builds the library.
fn shim(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_does_not_keep_is_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (files, broken) = (dir.path().join("vault"), dir.path().join("broken"));
    initialised(&files).await;
    let environment = [("LD_PRELOAD", shim(dir.path())), ("SANDYQ_TEST_FSYNC_FAILS", broken.clone())];
    let server = Server::start_in(&files.join("sandyq.toml"), &environment);
    let (backend, payments) =
        (server.channel(&files, "backend").await, server.channel(&files, "payments").await);
    let (mut backend, mut payments) = (VaultServiceClient::new(backend), VaultServiceClient::new(payments));
    let stored = backend.tokenize(tokenize_request(1)).await.unwrap().into_inner();
    let token = stored.tokens[2].token.clone();
    assert!(payments.detokenize(detokenize_request(&token, "payments")).await.is_ok());
    let mut ready = Ready::watch(server.health.unwrap()).await;
    ready.until(ServingStatus::Serving).await;

    fs::write(&broken, "").unwrap();
    let lost = tokenize_request(2);
    for disk in ["fails", "says that it is well again"] {
        for request in [lost.clone(), tokenize_request(3)] {
            let refused = backend.tokenize(request).await.unwrap_err();
            assert_eq!(reason(&refused), "UNAVAILABLE", "the disk {disk}");
        }
        let refused = payments.detokenize(detokenize_request(&token, "payments")).await.unwrap_err();
        assert_eq!(reason(&refused), "UNAVAILABLE", "the disk {disk}: no entry, no value");
        // What leaves no entry needs no disk.
        assert_eq!(backend.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner().caller, "backend");
        if broken.exists() {
            ready.until(ServingStatus::NotServing).await;
            fs::remove_file(&broken).unwrap();
        }
    }
    let mut health = health(server.health.unwrap()).await;
    assert_eq!(says(&mut health, "sandyq.ready").await, ServingStatus::NotServing);
    assert_eq!(says(&mut health, "sandyq.live").await, ServingStatus::Serving);
    server.kill();

    // A new process reads what is there: all that was acknowledged, and the request whose end nobody knew has one.
    let server = Server::start(&files);
    let mut backend = VaultServiceClient::new(server.channel(&files, "backend").await);
    let mut payments = VaultServiceClient::new(server.channel(&files, "payments").await);
    let read = payments.detokenize(detokenize_request(&token, "payments")).await.unwrap();
    assert_eq!(read.into_inner().value, iin(1));
    let first = backend.tokenize(lost.clone()).await.unwrap().into_inner();
    let again = backend.tokenize(lost).await.unwrap().into_inner();
    assert_eq!(first, again);
    let read = payments.detokenize(detokenize_request(&first.tokens[2].token, "payments")).await.unwrap();
    assert_eq!(read.into_inner().value, iin(2));
    server.kill();
}
