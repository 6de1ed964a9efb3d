//! Spans as OTLP has them (`opentelemetry/proto/trace/v1`), with the names of the semantic conventions 1.45 for RPC. Only the
//! fields that are used; their numbers are the protocol's.

use prost::{Message, Oneof};

use super::metrics::method;
use crate::vault::{
    meters::{OTHER, status_name},
    traces::{CallSpan, PartSpan},
};

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";
/// Kinds of spans.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
/// Code of a span that failed.
const ERROR: i32 = 2;
/// Flags: sampled; the parent is known to be here or elsewhere; it is elsewhere.
const SAMPLED: u32 = 0x1;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;
/// Statuses that are the server's fault, as the conventions have it for servers.
const FAULTS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Whose spans these are.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the installation.
    pub installation: String,
    /// Name of this process among those of the installation.
    pub replica: String,
    /// Port that it listens at.
    pub port: u16,
}

/// A request of `opentelemetry.proto.collector.trace.v1.TraceService/Export`, encoded.
pub(super) fn request(origin: &Origin, calls: &[CallSpan]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = Resource {
        attributes: vec![
            text("service.name", env!("CARGO_PKG_NAME")),
            text("service.namespace", &origin.installation),
            text("service.instance.id", &origin.replica),
            text("service.version", version),
        ],
    };
    let scope = Scope { name: env!("CARGO_PKG_NAME").to_owned(), version: version.to_owned() };
    let spans = calls.iter().flat_map(|call| spans_of(origin, call)).collect();
    let scopes = vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.to_owned() }];
    let of_us = ResourceSpans { resource: Some(resource), scopes, schema_url: SCHEMA.to_owned() };
    Request { spans: vec![of_us] }.encode_to_vec()
}

/// How many spans a collector that took the request did not take.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer = Answer::decode(answer).unwrap_or_default();
    answer.partial.map_or(0, |partial| u64::try_from(partial.rejected).unwrap_or(0))
}

fn spans_of(origin: &Origin, call: &CallSpan) -> Vec<Span> {
    let began = u64::try_from(call.began_at.as_micros()).unwrap_or(0).saturating_mul(1_000);
    let named = method(call.call.map_or(OTHER, crate::vault::access::Call::as_str));
    let status = status_name(call.status);
    let failed = FAULTS.contains(&status);
    let mut attributes = vec![
        text("rpc.system.name", "grpc"),
        text("rpc.method", &named),
        text("rpc.response.status_code", status),
        text("server.address", &origin.installation),
        number("server.port", i64::from(origin.port)),
    ];
    if failed {
        attributes.push(text("error.type", status));
    }
    let server = Span {
        trace: call.trace_id.to_vec(),
        id: call.span_id.to_vec(),
        parent: call.parent.map(Vec::from).unwrap_or_default(),
        name: named,
        kind: SERVER,
        start: began,
        end: began.saturating_add(whole(call.took.as_nanos())),
        attributes,
        status: failed.then_some(Status { code: ERROR }),
        flags: SAMPLED | REMOTE_KNOWN | if call.parent.is_some() { REMOTE } else { 0 },
    };
    let parts = call.parts.iter().enumerate().map(|(at, part)| part_of(call, began, at, part));
    std::iter::once(server).chain(parts).collect()
}

fn part_of(call: &CallSpan, began: u64, at: usize, part: &PartSpan) -> Span {
    // Ids of parts follow from that of the call, which is random.
    let next = u64::try_from(at).unwrap_or(0).saturating_add(1);
    let own = u64::from_be_bytes(call.span_id).wrapping_add(next);
    let start = began.saturating_add(whole(part.after.as_nanos()));
    Span {
        trace: call.trace_id.to_vec(),
        id: own.to_be_bytes().to_vec(),
        parent: call.span_id.to_vec(),
        name: part.part.as_str().to_owned(),
        kind: INTERNAL,
        start,
        end: start.saturating_add(whole(part.took.as_nanos())),
        attributes: Vec::new(),
        status: None,
        flags: SAMPLED | REMOTE_KNOWN,
    }
}

fn whole(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Text(value.to_owned())) }) }
}

fn number(key: &'static str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Number(value)) }) }
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
}
