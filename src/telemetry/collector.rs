//! Spans on their way to the operator's collector, by OTLP over HTTP. It is dialled as every other place: at addresses of declared
//! sites alone, with no proxy and no redirect. Where it is away or slow, spans are lost and counted, and nothing waits.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::otlp::{Origin, rejected, request};
use crate::{
    domain::territory::{Refused, Territory, Use},
    net::{Endpoint, NoUrl, causes},
    vault::traces::{CallSpan, Traces},
};

/// Longest time to connect, and to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Time in which spans gather.
const GATHER: Duration = Duration::from_millis(500);
/// Calls of one request.
const MAX_CALLS: usize = 512;
/// Waits before a request that may pass later is sent again; then its spans are lost.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Longest time that the end of the process waits for the last spans.
const LAST_LIMIT: Duration = Duration::from_secs(2);
/// More of an answer is not read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A collector that the operator named.
#[derive(Debug, Clone)]
pub struct CollectorPlace {
    /// `https://host:port`, to which `/v1/traces` is added.
    pub endpoint: String,
    /// Roots of its certificate, PEM.
    pub authority: Option<Vec<u8>>,
}

/// The collector's place makes no client.
#[derive(Debug, thiserror::Error)]
pub enum NoCollector {
    /// Its address.
    #[error("telemetry.traces.endpoint is no URL")]
    Url(#[from] NoUrl),
    /// Its roots.
    #[error("telemetry.traces makes no client")]
    Client(#[from] reqwest::Error),
}

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// The collector is outside the declared sites.
    #[error("{0}")]
    Outside(#[from] Refused),
    /// There was no answer.
    #[error("{}", causes(.0))]
    Lost(reqwest::Error),
    /// It took nothing.
    #[error("it answers {0}")]
    Answered(StatusCode),
    /// Nobody can say who answered.
    #[error("it answers from nowhere")]
    Nowhere,
}

impl NotSent {
    /// Whether the same request may pass later, as OTLP has it.
    fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Answered(status) => matches!(status.as_u16(), 429 | 502..=504),
            Self::Outside(_) | Self::Nowhere => false,
        }
    }
}

/// Who gets spans.
pub struct Collector {
    http: Client,
    place: Endpoint,
    url: String,
    origin: Origin,
}

impl Collector {
    /// A collector of spans of `origin`, where `territory` lets its address in.
    ///
    /// # Errors
    /// [`NoCollector`].
    pub fn new(
        place: &CollectorPlace,
        origin: Origin,
        territory: Arc<dyn Territory>,
    ) -> Result<Self, NoCollector> {
        let endpoint = Endpoint::new(&place.endpoint, Use::Telemetry, territory)?;
        let builder = endpoint.client(place.authority.as_deref())?;
        let http = builder.connect_timeout(CONNECT_LIMIT).timeout(ANSWER_LIMIT).build()?;
        let url = format!("{}/v1/traces", place.endpoint.trim_end_matches('/'));
        Ok(Self { http, place: endpoint, url, origin })
    }

    /// Sends spans once; answers how many of them were not taken.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send(&self, calls: &[CallSpan]) -> Result<u64, NotSent> {
        self.place.admit()?;
        let asked = self.http.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf");
        let asked = asked.body(request(&self.origin, calls));
        let mut answer = asked.send().await.map_err(NotSent::Lost)?;
        self.place.admit_address(answer.remote_addr().ok_or(NotSent::Nowhere)?.ip())?;
        if !answer.status().is_success() {
            return Err(NotSent::Answered(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(NotSent::Lost)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(rejected(&body))
    }
}

/// Sends what waits, until `end`; then the last of it, for a moment. What has not arrived by then is lost, and counted.
pub async fn export(traces: Arc<Traces>, collector: Collector, end: impl Future<Output = ()> + Send) {
    let (tell, ending) = watch::channel(false);
    let mut exporter = Exporter { traces, collector, ending, in_hand: Vec::new(), reached: true };
    let all_done = {
        let mut going = pin!(exporter.go_on());
        tokio::select! {
            () = &mut going => true,
            // A request that is under way goes on: sent anew, its spans would arrive twice.
            () = end => {
                tell.send_replace(true);
                timeout(LAST_LIMIT, going).await.is_ok()
            }
        }
    };
    if !all_done {
        let lost = exporter.give_up();
        tracing::warn!(lost, "the last traces did not reach their collector in time and are lost");
    }
}

struct Exporter {
    traces: Arc<Traces>,
    collector: Collector,
    /// Whether the process ends: nothing is waited for any more but answers.
    ending: watch::Receiver<bool>,
    /// Taken out of the queue, and neither sent nor lost.
    in_hand: Vec<CallSpan>,
    /// Whether the last request arrived: a change is told.
    reached: bool,
}

impl Exporter {
    /// Until the end, and until nothing waits then.
    async fn go_on(&mut self) {
        loop {
            self.unless_ending(self.traces.arrived()).await;
            self.unless_ending(sleep(GATHER)).await;
            // Asked before: what arrived before the end is taken after it.
            let last = self.is_ending();
            self.send_waiting().await;
            if last {
                return;
            }
        }
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    async fn unless_ending(&self, wait: impl Future<Output = ()> + Send) {
        let mut ending = self.ending.clone();
        tokio::select! {
            () = wait => {}
            // That nobody could tell any more would be the end as well.
            _told = ending.wait_for(|ending| *ending) => {}
        }
    }

    async fn send_waiting(&mut self) {
        loop {
            self.in_hand = self.traces.take(MAX_CALLS);
            if self.in_hand.is_empty() {
                return;
            }
            let delivered = self.deliver().await;
            let all = count(&std::mem::take(&mut self.in_hand));
            match delivered {
                Ok(rejected) => {
                    let lost = rejected.min(all);
                    self.traces.count_sent(all - lost);
                    self.traces.count_lost(lost);
                    if !self.reached {
                        tracing::info!("traces reach their collector again");
                    }
                    self.reached = true;
                }
                Err(error) => {
                    self.traces.count_lost(all);
                    if self.reached {
                        tracing::warn!(%error, "traces do not reach their collector and are lost; no call waits for it");
                    }
                    self.reached = false;
                }
            }
        }
    }

    /// Sends what is in hand, again where that may help; once more at most after the end.
    async fn deliver(&self) -> Result<u64, NotSent> {
        for wait in AGAIN {
            let last = self.is_ending();
            match self.collector.send(&self.in_hand).await {
                Err(error) if error.may_pass() && !last => {
                    self.unless_ending(sleep(wait)).await;
                }
                done => return done,
            }
        }
        self.collector.send(&self.in_hand).await
    }

    /// Counts as lost what is in hand and what waits; answers how many spans that is.
    fn give_up(&mut self) -> u64 {
        let mut lost = 0;
        let mut calls = std::mem::take(&mut self.in_hand);
        while !calls.is_empty() {
            lost += count(&calls);
            calls = self.traces.take(MAX_CALLS);
        }
        self.traces.count_lost(lost);
        lost
    }
}

fn count(calls: &[CallSpan]) -> u64 {
    calls.iter().map(CallSpan::spans).sum()
}
