//! Spans of calls, for whoever collects traces (`docs/telemetry.md`).
//!
//! A span has no place for a text of a client: a call is one of the contract, a part one of the code, and the caller's trace
//! context is three numbers. What waits for the collector is in a queue of fixed size; a call never waits for it.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use tokio::{sync::Notify, task_local};

use super::{Vault, access::Call};
use crate::domain::{
    code::coded,
    rng::{Rng, random_bytes},
    territory::Territory,
    time::Timestamp,
};

coded! {
    /// What takes time in a call.
    Part, "part of a call" {
        /// Before it: whether its caller may begin, and what other processes changed.
        Enter = "enter",
        /// In its platform's lane: from being asked until what was decided is durable.
        Lane = "lane",
    }
}

/// Most parts that are kept of one call: a call over many platforms or subjects has more.
const MAX_PARTS: usize = 16;
/// Number of gRPC's CANCELLED: a call that was given up before its answer began.
const CANCELLED: usize = 1;
/// Bits of a trace's id that are random (W3C Trace Context level 2), and so decide whether it is kept.
const RANDOM_BITS: u32 = 56;

/// The caller's place in a trace (W3C Trace Context, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
}

impl TraceParent {
    /// Reads a traceparent of version 00; anything else is none, and goes nowhere.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = parts.next()?;
        let (trace_id, span_id) = (hex::<16>(parts.next()?)?, hex::<8>(parts.next()?)?);
        let [flags] = hex::<1>(parts.next()?)?;
        let whole = version == "00" && parts.next().is_none();
        let real = trace_id != [0; 16] && span_id != [0; 8];
        (whole && real).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

/// Bytes from lower-case hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Time that a part of a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSpan {
    /// Which.
    pub part: Part,
    /// When it began, after the call did.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// A call that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpan {
    /// The trace.
    pub trace_id: [u8; 16],
    /// This span.
    pub span_id: [u8; 8],
    /// The caller's span, where it named one.
    pub parent: Option<[u8; 8]>,
    /// The call; none for what is not of the contract.
    pub call: Option<Call>,
    /// Number of the status with which its answer began.
    pub status: usize,
    /// When it began.
    pub began_at: Timestamp,
    /// Until its answer began.
    pub took: Duration,
    /// What took time in it.
    pub parts: Vec<PartSpan>,
}

impl CallSpan {
    /// How many spans it is: itself, and its parts.
    #[must_use]
    pub fn spans(&self) -> u64 {
        1 + u64::try_from(self.parts.len()).unwrap_or(0)
    }
}

/// Which calls are traced, and how many spans may wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Share of calls that come without a trace of their own, from 0 to 1.
    pub ratio: f64,
    /// Calls that wait for the collector.
    pub queue: usize,
}

/// Spans on their way to the collector.
pub struct Traces {
    /// Traces with smaller random bits are kept.
    below: u64,
    room: usize,
    rng: Arc<dyn Rng>,
    waiting: Mutex<VecDeque<CallSpan>>,
    arrived: Notify,
    sent: AtomicU64,
    lost: AtomicU64,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("below", &self.below).field("room", &self.room).finish_non_exhaustive()
    }
}

impl Traces {
    /// Keeps spans as `sampling` says, with ids from `rng`.
    #[must_use]
    pub fn new(sampling: Sampling, rng: Arc<dyn Rng>) -> Arc<Self> {
        Arc::new(Self {
            below: below(sampling.ratio),
            room: sampling.queue,
            rng,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Begins the span of a call, where it is one to be kept: as its caller decided, or by chance.
    fn begin(
        self: &Arc<Self>,
        parent: Option<TraceParent>,
        call: Option<Call>,
        now: Timestamp,
    ) -> Option<Recording> {
        if parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        // Without randomness a call goes on without a span.
        let trace_id = parent.map_or_else(|| random_bytes(self.rng.as_ref()).ok(), |p| Some(p.trace_id))?;
        if parent.is_none() && chance(&trace_id) >= self.below {
            return None;
        }
        let span = CallSpan {
            trace_id,
            span_id: random_bytes(self.rng.as_ref()).ok()?,
            parent: parent.map(|parent| parent.span_id),
            call,
            status: CANCELLED,
            began_at: now,
            took: Duration::ZERO,
            parts: Vec::new(),
        };
        let parts = Parts { began: Instant::now(), kept: Arc::default() };
        Some(Recording { traces: Arc::clone(self), span: Some(span), parts })
    }

    /// Puts a span into the queue; where that is full, it is lost.
    fn put(&self, span: CallSpan) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.room {
            waiting.push_back(span);
            drop(waiting);
            self.arrived.notify_one();
        } else {
            drop(waiting);
            self.count_lost(span.spans());
        }
    }

    /// Takes the first spans that wait.
    #[must_use]
    pub fn take(&self, most: usize) -> Vec<CallSpan> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(most);
        waiting.drain(..count).collect()
    }

    /// Ready when spans wait that did not before.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Counts spans that the collector has.
    pub fn count_sent(&self, spans: u64) {
        self.sent.fetch_add(spans, Ordering::Relaxed);
    }

    /// Counts spans that it will never have.
    pub fn count_lost(&self, spans: u64) {
        self.lost.fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that the collector has, and spans that it will never have.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        [&self.sent, &self.lost].map(|count| count.load(Ordering::Relaxed))
    }
}

/// The bound of a share of all traces.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share between 0 and 1 of 2^56, which is exact in both types"
)]
fn below(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64
}

/// The random bits of a trace's id: its last seven bytes.
fn chance(trace_id: &[u8; 16]) -> u64 {
    trace_id.iter().skip(9).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[derive(Clone)]
struct Parts {
    began: Instant,
    kept: Arc<Mutex<Vec<PartSpan>>>,
}

task_local! {
    /// Where the parts of the call go that this task runs; only calls that are traced have one.
    static PARTS: Parts;
}

/// Does a part of a call; where the call is traced, its time is kept.
pub async fn timed<T>(part: Part, work: impl Future<Output = T>) -> T {
    let Ok(parts) = PARTS.try_with(Clone::clone) else { return work.await };
    let began = Instant::now();
    let done = work.await;
    let mut kept = parts.kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < MAX_PARTS {
        kept.push(PartSpan { part, after: began.duration_since(parts.began), took: began.elapsed() });
    }
    done
}

/// A call that is traced. It ends where this is dropped: also where the call was given up.
pub struct Recording {
    traces: Arc<Traces>,
    span: Option<CallSpan>,
    parts: Parts,
}

impl Recording {
    /// Runs the call; `status` is the number of its answer's status.
    pub async fn of<T>(mut self, call: impl Future<Output = T>, status: impl FnOnce(&T) -> usize) -> T {
        let answer = PARTS.scope(self.parts.clone(), call).await;
        if let Some(span) = &mut self.span {
            span.status = status(&answer);
        }
        answer
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        span.took = self.parts.began.elapsed();
        span.parts = std::mem::take(&mut *self.parts.kept.lock().unwrap_or_else(PoisonError::into_inner));
        self.traces.put(span);
    }
}

impl Vault {
    /// The same with spans of its calls; without them none are made.
    #[must_use]
    pub fn with_traces(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }

    /// Spans on their way, where there are any.
    #[must_use]
    pub const fn traces(&self) -> Option<&Arc<Traces>> {
        self.traces.as_ref()
    }

    /// Begins the span of a call, where it is traced.
    #[must_use]
    pub fn trace(&self, parent: Option<TraceParent>, call: Option<Call>) -> Option<Recording> {
        self.traces.as_ref()?.begin(parent, call, self.shared.clock.now())
    }

    /// Where bytes may go, where the configuration is held to declared sites.
    #[must_use]
    pub fn territory(&self) -> Option<Arc<dyn Territory>> {
        self.residency.as_ref().map(|watched| {
            let territory: Arc<dyn Territory> =
                Arc::<crate::residency::Residency>::clone(&watched.watch.residency);
            territory
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traces(ratio: f64, queue: usize) -> Arc<Traces> {
        Traces::new(Sampling { ratio, queue }, Arc::new(SystemRng::new()))
    }

    #[test]
    fn only_a_traceparent_is_one() {
        let parent = TraceParent::parse(PARENT).unwrap();
        assert!(parent.sampled && parent.span_id == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        assert!(!TraceParent::parse(&PARENT.replace("-01", "-00")).unwrap().sampled);
        for none in [
            "",
            "990101300018",
            &PARENT.to_uppercase(),
            &PARENT.replacen("00-", "01-", 1),
            &format!("{PARENT}-"),
            &format!("{PARENT}-x"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT.replace("-01", "-1"),
            &PARENT.replace("-01", ""),
        ] {
            assert_eq!(TraceParent::parse(none), None, "{none}");
        }
    }

    #[test]
    fn the_caller_decides_and_without_a_word_the_ratio() {
        let now = Timestamp::from_micros(0);
        let (asked, unasked) =
            (TraceParent::parse(PARENT), TraceParent::parse(&PARENT.replace("-01", "-00")));
        for (ratio, least, most) in [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1_000, 1_000)] {
            let traces = traces(ratio, 2_000);
            assert!(traces.begin(asked, None, now).is_some(), "{ratio}");
            assert!(traces.begin(unasked, None, now).is_none(), "{ratio}");
            let kept = (0..1_000).filter(|_| traces.begin(None, None, now).is_some()).count();
            assert!((least..=most).contains(&kept), "{ratio}: {kept}");
        }
    }

    #[tokio::test]
    async fn a_full_queue_loses_spans_and_counts_them() {
        let (traces, now) = (traces(1.0, 2), Timestamp::from_micros(7));
        for status in [0, 14, 16] {
            let recording = traces.begin(None, None, now).unwrap();
            let many = async {
                for _ in 0..MAX_PARTS + 3 {
                    timed(Part::Lane, async {}).await;
                }
            };
            recording.of(many, |()| status).await;
        }
        drop(traces.begin(TraceParent::parse(PARENT), None, now));
        let taken = traces.take(10);
        assert_eq!(taken.iter().map(|span| span.status).collect::<Vec<_>>(), [0, 14]);
        assert_eq!(taken[0].parts.len(), MAX_PARTS);
        assert_eq!(traces.counts(), [0, 17 + 1], "one with its parts, and one that never had any");
        drop(traces.begin(TraceParent::parse(PARENT), None, now));
        assert_eq!(traces.take(10)[0].status, CANCELLED, "it was given up");
        // Outside of a call that is traced nothing is kept anywhere.
        timed(Part::Lane, async {}).await;
        assert!(traces.take(1).is_empty());
    }
}
