//! A database that takes no commit for a while: calls are refused in time, nothing leaves without its entry, what was on its way is
//! done once, and everything goes on by itself.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use sandyq::grpc::pb;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{task::JoinSet, time::timeout};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::common::{
    backend::Backend,
    metrics::{Ready, health, says},
    pair::Pair,
    people::{iin, tokenize_request},
    random::rounds,
    served::{Served, detokenize_request, reason},
    wire::Wire,
};

/// How long health may take to tell.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
const CLIENTS: usize = 200;
/// How soon after a flood a call is answered again.
const RECOVERED_WITHIN: Duration = Duration::from_secs(2);

/// What holds commits up.
enum Brake {
    /// Somebody else has the one place of a writer.
    Writer(Option<SqliteConnection>),
    /// The standby that acknowledges each commit stands still, so COMMIT itself waits.
    Standby(Pair),
    /// Somebody else has the rows that each commit moves.
    Heads(String, Option<PgConnection>),
}

struct Place {
    served: Served,
    brake: Brake,
}

impl Place {
    async fn sqlite() -> Self {
        Self { served: Served::start().await, brake: Brake::Writer(None) }
    }

    async fn pair() -> Self {
        let pair = Pair::start().await;
        Self { served: Served::start_on(&pair.backend()).await, brake: Brake::Standby(pair) }
    }

    /// With two connections to its database.
    async fn narrow() -> Self {
        let backend = Backend::postgres().await;
        let Backend::Postgres(url) = backend.clone() else { unreachable!("asked for PostgreSQL") };
        let change = |files: &std::path::Path| {
            let path = files.join("sandyq.toml");
            let config = std::fs::read_to_string(&path).unwrap();
            let narrow = config.replace("[database]\n", "[database]\nconnections = 2\n");
            assert_ne!(narrow, config);
            std::fs::write(path, narrow).unwrap();
        };
        Self {
            served: Served::start_files(&backend, change).await,
            brake: Brake::Heads(url.as_str().to_owned(), None),
        }
    }

    async fn hold(&mut self) {
        match &mut self.brake {
            Brake::Writer(holder) => {
                let options = SqliteConnectOptions::new().filename(self.served.file("sandyq.db"));
                let connection = holder.insert(SqliteConnection::connect_with(&options).await.unwrap());
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
            }
            Brake::Standby(pair) => pair.second.signal("-STOP"),
            Brake::Heads(url, holder) => {
                let connection = holder.insert(PgConnection::connect(url).await.unwrap());
                connection.execute("BEGIN").await.unwrap();
                connection.execute("SELECT size FROM heads FOR UPDATE").await.unwrap();
            }
        }
    }

    async fn release(&mut self) {
        match &mut self.brake {
            Brake::Writer(holder) => holder.take().unwrap().close().await.unwrap(),
            Brake::Standby(pair) => pair.second.signal("-CONT"),
            Brake::Heads(_, holder) => holder.take().unwrap().close().await.unwrap(),
        }
    }

    async fn wire(&self, caller: &str) -> Wire {
        Wire::connect(self.served.running.address, self.served.running.installation.dir(), caller).await
    }

    /// What becomes of reads over these connections, all at once, each with so much time; values are checked.
    async fn flood(&self, wires: &[Wire], token: &str, within: Duration) -> Vec<Option<String>> {
        let mut reads = JoinSet::new();
        for wire in wires {
            let (wire, request) = (wire.clone(), detokenize_request(token, "payments"));
            reads.spawn(async move {
                wire.call::<pb::DetokenizeResponse>("VaultService/Detokenize", &request, within).await
            });
        }
        let mut told = Vec::new();
        for (answer, took) in reads.join_all().await {
            assert!(took <= within + within / 10, "a call with {within:?} took {took:?}");
            told.push(match answer {
                Ok(read) => {
                    assert_eq!(read.value, iin(1));
                    None
                }
                Err(status) => Some(reason(&status)),
            });
        }
        told
    }

    /// Entries of a request: what was decided, and how often that was repeated.
    async fn entries(&self, request_id: &str) -> (usize, usize) {
        let list = pb::ListEntriesRequest {
            platform: "lerna".into(),
            call: "VaultService/Tokenize".into(),
            page_size: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        let listed = self.served.audit("auditor").await.list_entries(list).await.unwrap().into_inner();
        let ours = listed.entries.into_iter().filter(|entry| entry.request_id == request_id);
        let (first, again): (Vec<_>, Vec<_>) = ours.partition(|entry| entry.replay_of.is_empty());
        (first.len(), again.len())
    }

    /// The client's time ends while its call is being committed. In a full run the database's time ends too.
    async fn a_deadline_in_a_commit_leaves_one_result(mut self, repeated: RangeInclusive<usize>) {
        let within = Duration::from_secs(rounds(2, 29).into());
        let (request, wire) = (tokenize_request(1), self.wire("backend").await);
        self.hold().await;
        let (late, took) = wire.call::<pb::TokenizeResponse>("VaultService/Tokenize", &request, within).await;
        let told = reason(&late.unwrap_err());
        println!("{told} after {took:?}");
        assert!(["DEADLINE_EXCEEDED", "UNAVAILABLE"].contains(&told.as_str()), "{told}");
        assert!(took <= within + within / 10, "{took:?}");
        self.release().await;

        let mut client = self.served.vault("backend").await;
        // A commit that the database gave up may be undone only now.
        let first = loop {
            match client.tokenize(request.clone()).await {
                Ok(first) => break first.into_inner(),
                Err(status) => assert_eq!(reason(&status), "UNAVAILABLE"),
            }
        };
        let again = client.tokenize(request.clone()).await.unwrap().into_inner();
        assert_eq!(first, again);
        let (decided, repetitions) = self.entries(&request.request_id).await;
        // A subject, five tokens, two consents.
        assert_eq!(decided, 8, "decided once");
        assert!(repeated.contains(&repetitions), "{repetitions} repetitions");
        for token in &first.tokens {
            let purpose =
                if ["phone", "email"].contains(&&*token.field) { "request_comms" } else { "payments" };
            let caller = if purpose == "payments" { "payments" } else { "support" };
            assert!(self.served.read(caller, purpose, &token.token).await.is_ok(), "{}", token.field);
        }
        self.served.running.stop().await.unwrap();
    }

    async fn a_blocked_commit_releases_nothing_and_is_refused_in_time(mut self) {
        let stored = self.served.store(1).await;
        let address = self.served.running.health.unwrap();
        let (mut asked, mut ready) = (health(address).await, Ready::watch(address).await);
        ready.until(ServingStatus::Serving).await;
        let mut wires = Vec::new();
        for _ in 0..20 {
            wires.push(self.wire("payments").await);
        }
        self.hold().await;
        let blocked = Instant::now();
        let flood = self.flood(&wires, stored.token("iin"), Duration::from_secs(2));
        let (told, not_ready) =
            tokio::join!(flood, timeout(TOLD_WITHIN, ready.until(ServingStatus::NotServing)));
        not_ready.expect("told within ten seconds");
        println!("health told of it within {:?}", blocked.elapsed());
        assert_eq!(says(&mut asked, "sandyq.live").await, ServingStatus::Serving);
        for told in told {
            let told = told.expect("a value left before its entry was durable");
            assert!(["DEADLINE_EXCEEDED", "UNAVAILABLE"].contains(&told.as_str()), "{told}");
        }
        self.release().await;
        ready.until(ServingStatus::Serving).await;
        assert_eq!(self.served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)));
        self.served.running.stop().await.unwrap();
    }
}

/// SQLite waits five seconds for the writer, so a commit that was given up is done by the retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_in_a_commit_leaves_one_result_on_sqlite() {
    Place::sqlite().await.a_deadline_in_a_commit_leaves_one_result(1..=2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_in_a_commit_leaves_one_result_on_a_pair() {
    Place::pair().await.a_deadline_in_a_commit_leaves_one_result(2..=2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_commit_releases_nothing_and_is_refused_in_time_on_sqlite() {
    Place::sqlite().await.a_blocked_commit_releases_nothing_and_is_refused_in_time().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_commit_releases_nothing_and_is_refused_in_time_on_a_pair() {
    Place::pair().await.a_blocked_commit_releases_nothing_and_is_refused_in_time().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_of_two_connections_are_shed_in_time_and_served_again_in_two_seconds() {
    let mut place = Place::narrow().await;
    let stored = place.served.store(1).await;
    let token = stored.token("iin");
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        wires.push(place.wire("payments").await);
    }
    let within = Duration::from_secs(3);
    place.hold().await;
    for told in place.flood(&wires, token, within).await {
        let told = told.expect("nothing was committed");
        assert!(["DEADLINE_EXCEEDED", "UNAVAILABLE", "OVERLOADED"].contains(&told.as_str()), "{told}");
    }
    place.release().await;
    let freed = Instant::now();
    let recovered = async { while place.served.read("payments", "payments", token).await.is_err() {} };
    timeout(RECOVERED_WITHIN, recovered).await.expect("served again within two seconds");
    println!("served again after {:?}", freed.elapsed());
    let told = place.flood(&wires, token, Duration::from_secs(20)).await;
    assert_eq!(told.into_iter().flatten().next(), None, "all are served");

    let Brake::Heads(url, _) = &place.brake else { unreachable!("made so") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sandyq'";
    let held = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(held, 2, "no more connections than it may hold");
    connection.close().await.unwrap();
    place.served.running.stop().await.unwrap();
}
