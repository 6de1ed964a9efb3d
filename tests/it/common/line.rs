//! A line between two ends, through a hand of the test's: it passes bytes on, holds them back, slows them down, or loses what one
//! side says.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use super::{backend::Backend, pair::SOCKET};

/// How often a slow line passes something on.
const TICK: Duration = Duration::from_millis(50);

/// How bytes go in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Free,
    /// They wait until the line is free again.
    Held,
    /// They never arrive.
    Lost,
    /// So many in a second.
    Slow(usize),
}

/// There, and back.
type Flows = (Flow, Flow);

/// Where a line begins, and where it leads.
enum Ends {
    Address(TcpListener, SocketAddr),
    Socket(UnixListener, PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type Boxed = Box<dyn Stream>;

impl Ends {
    async fn next(&self) -> io::Result<(Boxed, Boxed)> {
        Ok(match self {
            Self::Address(listener, target) => {
                let (near, _) = listener.accept().await?;
                near.set_nodelay(true)?;
                (Box::new(near), Box::new(TcpStream::connect(target).await?))
            }
            Self::Socket(listener, target) => {
                let (near, _) = listener.accept().await?;
                (Box::new(near), Box::new(UnixStream::connect(target).await?))
            }
        })
    }
}

/// The line; when it is dropped, everything on it ends.
pub struct Line {
    flows: watch::Sender<Flows>,
    lost: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Line {
    /// Before a listener on this machine; answers where the line begins.
    pub async fn to_address(target: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let begins = listener.local_addr().unwrap();
        (Self::between(Ends::Address(listener, target)), begins)
    }

    /// Before a database server, with its socket in `dir`; answers the database as it is found there.
    pub fn to_database(backend: &Backend, dir: &Path) -> (Self, Backend) {
        let Backend::Postgres(url) = backend else { panic!("no line leads to a file") };
        let (base, home) = url.split_once("?host=").unwrap();
        let listener = UnixListener::bind(dir.join(SOCKET)).unwrap();
        let line = Self::between(Ends::Socket(listener, Path::new(home).join(SOCKET)));
        (line, Backend::elsewhere(format!("{base}?host={}", dir.display())))
    }

    fn between(ends: Ends) -> Self {
        let (flows, told) = watch::channel((Flow::Free, Flow::Free));
        let lost = Arc::new(AtomicU64::new(0));
        let losing = Arc::clone(&lost);
        let accepting = tokio::spawn(async move {
            // One that cannot be connected is dropped, as it would be without the line.
            loop {
                let Ok((near, far)) = ends.next().await else { continue };
                let ((near_says, near_hears), (far_says, far_hears)) = (split(near), split(far));
                let there = Pump { flows: told.clone(), of: |flows| flows.0, lost: Arc::clone(&losing) };
                let back = Pump { flows: told.clone(), of: |flows| flows.1, lost: Arc::clone(&losing) };
                tokio::spawn(there.run(near_says, far_hears));
                tokio::spawn(back.run(far_says, near_hears));
            }
        });
        Self { flows, lost, accepting }
    }

    /// Changes how bytes go from now on.
    pub fn set(&self, there: Flow, back: Flow) {
        self.flows.send_replace((there, back));
    }

    /// Bytes that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of one connection.
struct Pump {
    flows: watch::Receiver<Flows>,
    of: fn(Flows) -> Flow,
    lost: Arc<AtomicU64>,
}

impl Pump {
    /// Until an end closes, or the line is no more.
    async fn run(mut self, mut from: ReadHalf<Boxed>, mut to: WriteHalf<Boxed>) {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let read = tokio::select! {
                read = from.read(&mut bytes) => read.unwrap_or(0),
                () = gone(&mut self.flows) => return,
            };
            if read == 0 || self.pass(&bytes[..read], &mut to).await.is_none() {
                break;
            }
        }
        let _closed_already = to.shutdown().await;
    }

    async fn pass(&mut self, mut rest: &[u8], to: &mut WriteHalf<Boxed>) -> Option<()> {
        while !rest.is_empty() {
            let flows = *self.flows.borrow_and_update();
            let now = match (self.of)(flows) {
                Flow::Free => rest.len(),
                Flow::Lost => {
                    self.lost.fetch_add(u64::try_from(rest.len()).unwrap(), Ordering::SeqCst);
                    return Some(());
                }
                Flow::Held => {
                    self.flows.changed().await.ok()?;
                    continue;
                }
                Flow::Slow(in_a_second) => {
                    sleep(TICK).await;
                    (in_a_second / 20).clamp(1, rest.len())
                }
            };
            let (these, others) = rest.split_at(now);
            to.write_all(these).await.ok()?;
            rest = others;
        }
        Some(())
    }
}

/// Waits until the line is no more.
async fn gone(flows: &mut watch::Receiver<Flows>) {
    while flows.changed().await.is_ok() {}
}
