//! Metrics and health as a monitor asks for them: without TLS.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

/// An answer over HTTP/1.1, head and body.
pub async fn ask(address: SocketAddr, request_line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request_line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What `/metrics` answers.
pub async fn scrape(address: SocketAddr) -> String {
    let answer = ask(address, "GET /metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Samples by name with labels, as the text has them.
pub fn samples(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// A client of the health service.
pub async fn health(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

/// What the health service says of a name.
pub async fn says(health: &mut HealthClient<Channel>, name: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: name.into() };
    health.check(request).await.unwrap().into_inner().status()
}

/// Whether a process can serve, as it tells who watches.
pub struct Ready(Streaming<HealthCheckResponse>);

impl Ready {
    pub async fn watch(address: SocketAddr) -> Self {
        let request = HealthCheckRequest { service: "sandyq.ready".into() };
        Self(health(address).await.watch(request).await.unwrap().into_inner())
    }

    /// Waits until it says so; what stays as it is may be said again.
    pub async fn until(&mut self, status: ServingStatus) {
        while self.0.message().await.unwrap().unwrap().status() != status {}
    }
}
