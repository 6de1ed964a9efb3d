//! A ceiling that shares nothing with the vault but its TLS: a gRPC server upon the frames of HTTP/2 themselves, without
//! tonic. It answers Detokenize as `echo` does, so that the two tell whether `echo` is as fast as a bare server can be.

use prost::{
    Message as _,
    bytes::{BufMut as _, Bytes, BytesMut},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_stream::StreamExt as _;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};

use super::bare::as_long_an_answer;
use crate::grpc::{
    pb,
    tls::{ServerTls, incoming},
};

/// Bytes before a message: whether it is compressed, and how long it is.
const PREFIX: usize = 5;
/// Statuses of gRPC.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, tls: ServerTls) {
    let mut connections = incoming(listener, tls, || false);
    while let Some(stream) = connections.next().await {
        if let Ok(stream) = stream {
            tokio::spawn(connection(stream));
        }
    }
}

/// Answers the calls of a connection, each in a task of its own, until it ends.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(answer(request.map(h2::RecvStream::into), respond));
    }
    Ok(())
}

/// What a client sends, until it has ended.
struct Body(h2::RecvStream);

impl From<h2::RecvStream> for Body {
    fn from(stream: h2::RecvStream) -> Self {
        Self(stream)
    }
}

impl Body {
    async fn whole(mut self) -> Result<Bytes, h2::Error> {
        let mut whole = BytesMut::new();
        while let Some(part) = self.0.data().await {
            let part = part?;
            self.0.flow_control().release_capacity(part.len())?;
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }
}

async fn answer(
    request: Request<Body>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let asked = request.into_body().whole().await?;
    let asked = asked.get(PREFIX..).and_then(|message| pb::DetokenizeRequest::decode(message).ok());
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(head, false)?;
    let status = if asked.is_some_and(|asked| !asked.token.is_empty()) {
        stream.send_data(framed(&as_long_an_answer()), false)?;
        OK
    } else {
        INVALID_ARGUMENT
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    stream.send_trailers(trailers)
}

/// A message as it goes over the wire.
fn framed(message: &pb::DetokenizeResponse) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or_default());
    // The buffer grows with what is written: there is always room.
    let _fits = message.encode(&mut frame);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stands_behind_its_length() {
        let message = as_long_an_answer();
        let frame = framed(&message);
        let (prefix, rest) = frame.split_at(PREFIX);
        assert_eq!((prefix[0], usize::from(prefix[4])), (0, rest.len()));
        assert_eq!(pb::DetokenizeResponse::decode(rest).unwrap().value, message.value);
    }
}
