//! Answers that are ready together leave together.
//!
//! A commit of the lane answers many calls at once. Each wakes its connection's task, which would write the first answer before
//! the next is encoded: a system call and a wake-up of the client for nearly every call. Here a connection's task steps
//! back once before it writes, behind what is ready to run, and then writes all answers that came meanwhile. Where nothing
//! else is ready it is its own turn again at once, so no timer waits and a lone answer is as quick as before.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection whose writes gather what is ready.
pub(super) struct Gathered<S> {
    stream: S,
    /// Whether the task has stepped back since the last flush.
    stepped_back: bool,
}

impl<S> Gathered<S> {
    /// Around a connection.
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, stepped_back: false }
    }

    /// Answers whether the task is to come again, and sees to it that it does.
    fn steps_back(&mut self, cx: &Context<'_>) -> bool {
        if std::mem::replace(&mut self.stepped_back, true) {
            return false;
        }
        // A task that wakes itself while it runs goes behind all others of its thread.
        cx.waker().wake_by_ref();
        true
    }
}

impl<S: Connected> Connected for Gathered<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.steps_back(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.steps_back(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.stepped_back = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What is ready when the connection's task writes is ready when it has stepped back.
    #[tokio::test]
    async fn what_is_ready_comes_before_a_write() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&order);
        let writer = tokio::spawn(async move {
            let mut stream = Gathered::new(ours);
            for _ in 0..2 {
                let other = std::sync::Arc::clone(&seen);
                let ready = tokio::spawn(async move { other.lock().unwrap().push("ready") });
                stream.write_all(b"answer").await.unwrap();
                seen.lock().unwrap().push("written");
                stream.flush().await.unwrap();
                ready.await.unwrap();
            }
        });
        let mut read = [0; 12];
        theirs.read_exact(&mut read).await.unwrap();
        writer.await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["ready", "written", "ready", "written"]);
    }
}
