//! Calls whose deadline the server alone keeps: a generated client would stop waiting by itself.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use h2::client::{SendRequest, handshake};
use prost::{Message, bytes::Bytes};
use tonic::{Code, Status, codegen::http};

use super::frames::connect;

/// A connection of a caller.
#[derive(Clone)]
pub struct Wire(SendRequest<Bytes>);

impl Wire {
    pub async fn connect(address: SocketAddr, files: &Path, caller: &str) -> Self {
        let stream = connect(address, files, caller).await.into_stream();
        let (send, connection) = handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        Self(send)
    }

    /// Calls `Service/Method` of the contract, with so much time; answers also how long it took.
    pub async fn call<A: Message + Default>(
        &self,
        call: &str,
        message: &impl Message,
        within: Duration,
    ) -> (Result<A, Status>, Duration) {
        let began = Instant::now();
        let answer = self.ask(call, &message.encode_to_vec(), within).await;
        (answer.map(|bytes| A::decode(&*bytes).unwrap()), began.elapsed())
    }

    async fn ask(&self, call: &str, message: &[u8], within: Duration) -> Result<Vec<u8>, Status> {
        let broken = |error: h2::Error| Status::unknown(error.to_string());
        let mut send = self.0.clone().ready().await.map_err(broken)?;
        let request = http::Request::post(format!("https://localhost/sandyq.v1.{call}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}m", within.as_millis()));
        let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).map_err(broken)?;
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        body.send_data([&[0][..], &length, message].concat().into(), true).map_err(broken)?;
        let (head, mut body) = answer.await.map_err(broken)?.into_parts();
        refused(&head.headers)?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(broken)?;
            body.flow_control().release_capacity(piece.len()).map_err(broken)?;
            bytes.extend(piece);
        }
        refused(&body.trailers().await.map_err(broken)?.unwrap_or_default())?;
        Ok(bytes.split_off(5))
    }
}

fn refused(headers: &http::HeaderMap) -> Result<(), Status> {
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok);
    status.map_or(Ok(()), Err)
}
