//! The database by the address that was really reached, and by what the server says of itself; who follows it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use sandyq::{
    cli::local::LocalInstallation,
    crypto::random::SystemRng,
    domain::territory::{Refused, Territory, Use},
    grpc::pb,
    residency::{Names, SystemNames},
    store::{StoreError, postgres},
};
use sqlx::{Connection as _, PgConnection};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::net::{Cluster, Forwarder, Turning, with_frankfurt};
use crate::common::{
    backend::{Backend, options},
    people::{iin, tokenize_request},
    served::{Served, reason, request_id},
};

/// What is said about a server; empty where it is taken.
async fn said(url: &str, frankfurt: &[&str], names: Arc<dyn Names>) -> String {
    let territory: Arc<dyn Territory> = with_frankfurt(frankfurt, names);
    match postgres::open_and_migrate(&options(url), &territory, &SystemRng::new()).await {
        Ok(store) => {
            store.close().await;
            String::new()
        }
        Err(StoreError::Outside(refused)) => refused.to_string(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_judged_by_the_address_that_it_reached() {
    let cluster = Cluster::start();
    let system = || -> Arc<dyn Names> { Arc::new(SystemNames) };
    let direct = Cluster::url("127.0.0.1", cluster.port);
    assert_eq!(said(&direct, &["127.0.0.2/32"], system()).await, "", "a server in its site is taken");

    // An address that is written in the configuration.
    let abroad = Forwarder::start("127.0.0.2", cluster.address(), None).await;
    let literal = Cluster::url("127.0.0.2", abroad.port);
    let refused = said(&literal, &["127.0.0.2/32"], system()).await;
    assert!(refused.contains("is at 127.0.0.2: it is of site frankfurt in DE"), "{refused}");

    // A name that stood for a place at home when it was looked up, and stands for one abroad when it is dialled: the
    // number is 127.0.0.2 to the system's resolver. The server itself says that it is at 127.0.0.1, at home.
    let rebound = Cluster::url("2130706434", abroad.port);
    let refused = said(&rebound, &["127.0.0.2/32"], Turning::at("127.0.0.1")).await;
    assert!(
        refused.contains(&format!("the database at 2130706434:{} is at 127.0.0.2", abroad.port)),
        "{refused}"
    );
    assert!(refused.contains("it is of site frankfurt in DE"), "{refused}");

    // Something at home that passes everything on: the server says that it is elsewhere.
    let far = SocketAddr::new("::1".parse().unwrap(), cluster.port);
    let tunnel = Forwarder::start("127.0.0.1", far, None).await;
    let refused = said(&Cluster::url("127.0.0.1", tunnel.port), &["::1/128"], system()).await;
    assert!(refused.contains("is at ::1: it is of site frankfurt in DE"), "{refused}");

    // A socket that is none of the server's.
    let directory = tempfile::tempdir().unwrap();
    let _socket = Forwarder::start_socket(directory.path(), cluster.address());
    let url = format!("postgres://sandyq@localhost/postgres?host={}", directory.path().display());
    let refused = said(&url, &["127.0.0.2/32"], system()).await;
    assert!(refused.contains("the server says that no socket reaches it"), "{refused}");

    hidden_from_others(&cluster).await;
    judged_at_each_connection(&cluster).await;
}

/// Declarations that are others from one moment to the next, and what they refused.
#[derive(Debug)]
struct Switch {
    open: Arc<dyn Territory>,
    closed: Arc<dyn Territory>,
    is_closed: AtomicBool,
    refused: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Territory for Switch {
    fn admit(&self, used_for: Use, place: &str, address: IpAddr) -> Result<(), Refused> {
        if !self.is_closed.load(Ordering::SeqCst) {
            return self.open.admit(used_for, place, address);
        }
        let admitted = self.closed.admit(used_for, place, address);
        admitted.inspect_err(|refused| self.refused.lock().unwrap().push(refused.to_string()))
    }

    fn admit_path(&self, used_for: Use, path: &Path) -> Result<(), Refused> {
        self.open.admit_path(used_for, path)
    }

    async fn resolve(&self, used_for: Use, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        self.open.resolve(used_for, host, port).await
    }

    fn peers(&self, port: u16) -> io::Result<Option<Vec<IpAddr>>> {
        self.open.peers(port)
    }
}

/// What was admitted at the start is judged again when the pool connects anew.
async fn judged_at_each_connection(cluster: &Cluster) {
    let open: Arc<dyn Territory> = with_frankfurt(&["127.0.0.2/32"], Arc::new(SystemNames));
    let closed: Arc<dyn Territory> = with_frankfurt(&["127.0.0.1/32"], Arc::new(SystemNames));
    let (is_closed, refused) = (AtomicBool::new(false), Mutex::default());
    let switch = Arc::new(Switch { open, closed, is_closed, refused });
    let territory: Arc<dyn Territory> = Arc::<Switch>::clone(&switch);
    let url = Cluster::url("127.0.0.1", cluster.port);
    let store = postgres::open(&options(&url), &territory, &SystemRng::new()).await.unwrap();
    store.installation().await.unwrap();
    switch.is_closed.store(true, Ordering::SeqCst);
    // It goes back into the pool in a task of its own: whoever comes before that has looked for a new one in vain.
    let mut served = store.installation().await;
    if served.is_err() {
        served = store.installation().await;
    }
    served.expect("a connection that is open serves on");
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sandyq'";
    sqlx::query(end).execute(&mut admin).await.unwrap();
    // Those that were ended say so, each once; then no new one is let in.
    loop {
        let error = store.installation().await.expect_err("no connection is let in");
        if std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("timed out")) {
            break;
        }
    }
    let expected =
        format!("the database at 127.0.0.1:{} is at 127.0.0.1: it is of site frankfurt in DE", cluster.port);
    let said = switch.refused.lock().unwrap().clone();
    assert!(!said.is_empty() && said.iter().all(|said| said.contains(&expected)), "{said:?}");
    switch.is_closed.store(false, Ordering::SeqCst);
    store.installation().await.unwrap();
    store.close().await;
}

/// A user without `pg_monitor` is shown nothing, and says so.
async fn hidden_from_others(cluster: &Cluster) {
    let mut admin = PgConnection::connect(&Cluster::url("127.0.0.1", cluster.port)).await.unwrap();
    for sql in ["CREATE ROLE plain LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain"] {
        sqlx::query(sql).execute(&mut admin).await.unwrap();
    }
    let territory: Arc<dyn Territory> = with_frankfurt(&["127.0.0.2/32"], Arc::new(SystemNames));
    let url = Cluster::url("127.0.0.1", cluster.port).replace("sandyq@", "plain@");
    let store = postgres::open(&options(&url), &territory, &SystemRng::new()).await.unwrap();
    let hidden = store.whereabouts().await.unwrap().unwrap();
    assert!(!hidden.shown && hidden.followers.is_empty() && hidden.archive.is_none(), "{hidden:?}");
    sqlx::query("GRANT pg_monitor TO plain").execute(&mut admin).await.unwrap();
    let shown = store.whereabouts().await.unwrap().unwrap();
    assert!(shown.shown && shown.archive.as_deref() == Some("/bin/true"), "{shown:?}");
    assert_eq!(shown.address, Some("127.0.0.1".parse::<IpAddr>().unwrap()));
    store.close().await;
}

/// Nothing is served while somebody abroad follows the database.
async fn refused_at_the_start(cluster: &Cluster, from: &Forwarder, files: &Path) {
    let follower = cluster.follow(from.port);
    let mut admin = PgConnection::connect(&Cluster::url("127.0.0.1", cluster.port)).await.unwrap();
    let abroad = "SELECT count(*) FROM pg_stat_replication WHERE client_addr = '127.0.0.3'";
    let followers = async |admin: &mut PgConnection, wanted: i64| {
        while sqlx::query_scalar::<_, i64>(abroad).fetch_one(&mut *admin).await.unwrap() != wanted {
            tokio::task::yield_now().await;
        }
    };
    followers(&mut admin, 1).await;
    let refused =
        LocalInstallation::open(files).start(true).await.err().expect("it starts").message().to_owned();
    let place =
        format!("the replica at follower pg_receivewal of 127.0.0.1:{} is at 127.0.0.3", cluster.port);
    assert!(refused.contains(&format!("{place}: it is of site frankfurt in DE")), "{refused}");
    drop(follower);
    followers(&mut admin, 0).await;
}

const SITES: &str = "check_seconds = 1\nstop_writes = true\n\n[[residency.site]]\nname = \"frankfurt\"\ncountry = \"DE\"\n\
                     networks = [\"127.0.0.3/32\"]\n\n[[residency.site]]\nname = \"this-machine\"\nhere = true\n\n\
                     [[residency.site.attested]]\narchives = [\"/bin/true\"]\nby = \"officer-17\"\n\
                     until = \"2099-11-01\"\nstatement = \"It keeps nothing\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_added_abroad_is_found_and_stops_what_is_new() {
    let cluster = Cluster::start();
    let backend = Backend::elsewhere(Cluster::url("127.0.0.1", cluster.port));
    let served = Served::start_files(&backend, |files| {
        let path = files.join("sandyq.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let sites = "\n[[residency.site]]\nname = \"this-machine\"\nhere = true\n";
        assert!(text.contains(sites));
        std::fs::write(path, text.replace(sites, SITES)).unwrap();
    })
    .await;
    let channel = served.channel("admin").await;
    let asked = HealthCheckRequest { service: "sandyq.residency".to_owned() };
    let mut health = HealthClient::new(channel).watch(asked).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stored = served.store(1).await;

    // Through an address that is declared in Germany.
    let from = Forwarder::start("127.0.0.1", cluster.address(), Some("127.0.0.3".parse().unwrap())).await;
    let follower = cluster.follow(from.port);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let mut backend = served.vault("backend").await;
    let refused = backend.tokenize(tokenize_request(2)).await.unwrap_err();
    assert_eq!(reason(&refused), "STORAGE_OUTSIDE");
    // What is there is read on, and what takes away goes on.
    assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)));
    let revoke = pb::RevokeTokenRequest { request_id: request_id(), token: stored.token("iin").to_owned() };
    backend.revoke_token(revoke).await.unwrap();

    drop(follower);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    served.store(3).await;
    let Served { running, dir, backend } = served;
    running.stop().await.unwrap();
    let files = dir.path().join("vault");
    refused_at_the_start(&cluster, &from, &files).await;
    let running = LocalInstallation::open(&files).start(true).await.unwrap();
    let served = Served { running, dir, backend };
    let asked = HealthCheckRequest { service: "sandyq.residency".to_owned() };
    let channel = served.channel("admin").await;
    let mut health = HealthClient::new(channel).watch(asked).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    // What the server would follow itself, and a command that nobody attested.
    let mut admin = PgConnection::connect(&Cluster::url("127.0.0.1", cluster.port)).await.unwrap();
    for (setting, status) in [
        ("primary_conninfo = 'host=127.0.0.3 user=replicator'", ServingStatus::NotServing),
        ("primary_conninfo = ''", ServingStatus::Serving),
        ("archive_command = '/bin/true; true'", ServingStatus::NotServing),
        ("archive_command = '/bin/true'", ServingStatus::Serving),
    ] {
        let set = format!("ALTER SYSTEM SET {setting}");
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut admin).await.unwrap();
        sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
        assert_eq!(health.message().await.unwrap().unwrap().status(), status, "{setting}");
    }
    let asked = pb::ListEntriesRequest { call: "Residency/Change".to_owned(), ..Default::default() };
    let entries = served.audit("auditor").await.list_entries(asked).await.unwrap().into_inner().entries;
    let told: Vec<_> = entries.iter().map(|e| (e.reason.as_str(), e.object_id.as_str())).collect();
    for (reason, used_for) in
        [("OUTSIDE", "replica"), ("GONE", "replica"), ("OUTSIDE", "archive"), ("INSIDE", "archive")]
    {
        let object = data_encoding::HEXLOWER.encode(used_for.as_bytes());
        assert!(told.contains(&(reason, object.as_str())), "{reason} {used_for} not in {told:?}");
    }
    served.running.stop().await.unwrap();
}
