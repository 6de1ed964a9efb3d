//! The body of an answer, with what lasts as long as it: the caller's place among its calls. Where the server ends while the
//! body is still open, it ends as UNAVAILABLE, not by a broken connection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, http},
};

use super::{status::shutting_down, throttle::Running};

/// Turns true when what still runs is to end.
pub(super) type Cut = watch::Receiver<bool>;

/// Waits until what still runs is to end.
pub(super) async fn cut(mut cut: Cut) {
    if cut.wait_for(|cut| *cut).await.is_err() {
        // The server is gone without a word: so is the connection.
        std::future::pending::<()>().await;
    }
}

pub(super) struct Kept {
    inner: Body,
    cut: Cut,
    /// Made when the body has to wait: most never do.
    cutting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ended: bool,
    _running: Option<Running>,
}

impl Kept {
    /// Keeps a call's place until its answer has ended.
    pub(super) fn answer(
        answer: http::Response<Body>,
        running: Option<Running>,
        cut: Cut,
    ) -> http::Response<Body> {
        answer.map(|inner| Body::new(Self { inner, cut, cutting: None, ended: false, _running: running }))
    }
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let signal = self.cut.clone();
        let cutting = self.cutting.get_or_insert_with(|| Box::pin(cut(signal)));
        match cutting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.ended = true;
                let mut trailers = http::HeaderMap::new();
                Poll::Ready(Some(
                    shutting_down().add_header(&mut trailers).map(|()| Frame::trailers(trailers)),
                ))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
