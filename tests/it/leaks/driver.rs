//! Drives calls of the contract by their names, and keeps every refusal.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use sandyq::{grpc::pb, vault::access::Call};
use tonic::{Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::coverage::{OF_TWO_PEOPLE, without_role};
use crate::common::{child::Server, raw::Bytes, served::request_id};

/// Calls, and what came of them.
pub struct Driver {
    channels: HashMap<&'static str, Channel>,
    pool: DescriptorPool,
    succeeded: BTreeSet<&'static str>,
    refused: BTreeSet<&'static str>,
    /// Every refusal, also of single items.
    pub statuses: Vec<Status>,
    /// Header of the next calls.
    pub traceparent: Option<String>,
}

/// Everybody whom the installation knows.
pub const CALLERS: [&str; 9] =
    ["backend", "payments", "support", "credit", "mailing", "analytics", "rights", "admin", "auditor"];

impl Driver {
    pub async fn connect(server: &Server, files: &Path) -> Self {
        let mut channels = HashMap::new();
        for caller in CALLERS {
            channels.insert(caller, server.channel(files, caller).await);
        }
        Self {
            channels,
            pool: DescriptorPool::decode(pb::DESCRIPTORS).unwrap(),
            succeeded: BTreeSet::new(),
            refused: BTreeSet::new(),
            statuses: Vec::new(),
            traceparent: None,
        }
    }

    /// Sends a message, and answers all that come back.
    async fn send(&mut self, caller: &str, call: Call, message: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
        let mut client = Grpc::new(self.channels[caller].clone());
        client.ready().await.unwrap();
        let path: PathAndQuery = format!("/sandyq.v1.{}", call.as_str()).parse().unwrap();
        let mut request = tonic::Request::new(message);
        if let Some(trace) = &self.traceparent {
            request.metadata_mut().insert("traceparent", trace.parse().unwrap());
        }
        let answered = async {
            let mut stream = client.server_streaming(request, path, Bytes).await?.into_inner();
            let mut messages = Vec::new();
            while let Some(message) = stream.message().await? {
                messages.push(message);
            }
            Ok(messages)
        };
        let answered: Result<_, Status> = answered.await;
        answered.inspect_err(|status| {
            self.refused.insert(call.as_str());
            self.statuses.push(status.clone());
        })
    }

    /// A call that must succeed; of a stream the last message is answered.
    pub async fn answer<A: Message + Default>(
        &mut self,
        caller: &str,
        call: Call,
        request: impl Message,
    ) -> A {
        // The same by somebody who lacks the role: refused, whatever the request says.
        if let Some(other) = without_role(call) {
            self.refuse_as(other, call, &request).await;
        }
        let answer = self.send(caller, call, request.encode_to_vec()).await;
        let messages = answer.unwrap_or_else(|status| panic!("{}: {status:?}", call.as_str()));
        self.succeeded.insert(call.as_str());
        A::decode(messages.last().unwrap().as_slice()).unwrap()
    }

    /// The same, where the answer says nothing to this test.
    pub async fn succeed(&mut self, caller: &str, call: Call, request: impl Message) {
        self.answer::<()>(caller, call, request).await;
    }

    /// A call that must be refused for this reason.
    pub async fn refuse(&mut self, caller: &str, call: Call, request: impl Message, reason: &str) {
        let status = self.send(caller, call, request.encode_to_vec()).await.unwrap_err();
        assert_eq!(crate::common::served::reason(&status), reason, "{}", call.as_str());
    }

    async fn refuse_as(&mut self, caller: &str, call: Call, request: &impl Message) {
        const REASON: &str = "CALLER_NOT_ALLOWED";
        match self.send(caller, call, request.encode_to_vec()).await {
            Err(status) => {
                let reason = crate::common::served::reason(&status);
                assert_eq!(reason, REASON, "{} by {caller}", call.as_str());
            }
            // A batch says so item by item.
            Ok(answer) => {
                let says = |message: &Vec<u8>| message.windows(REASON.len()).any(|w| w == REASON.as_bytes());
                assert!(answer.iter().all(says), "{} by {caller}", call.as_str());
            }
        }
    }

    /// Every call with a text in each field that takes one.
    pub async fn fill_every_call(&mut self, caller: &str, text: &str, with_request_id: bool) {
        for call in Call::ALL {
            // A handle that has the form of one is taken, and kept.
            if *call == Call::EnrolPerson && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
                continue;
            }
            let (service, method) = call.as_str().split_once('/').unwrap();
            let service = self.pool.get_service_by_name(&format!("sandyq.v1.{service}")).unwrap();
            let input = service.methods().find(|m| m.name() == method).unwrap().input();
            let message = filled(&input, text, with_request_id).encode_to_vec();
            // Some calls take any text; what they answer is theirs.
            let _refused_or_not = self.send(caller, *call, message).await;
        }
    }

    /// Keeps the refusal of a single item.
    pub fn keep(&mut self, error: &tonic_types::Status) {
        let code = tonic::Code::from(error.code);
        self.statuses.push(Status::with_details(code, error.message.clone(), error.encode_to_vec().into()));
    }

    /// Fails for a call that nobody drove here, so that a new one is not forgotten.
    pub fn drove_every_call(&self) {
        for call in Call::ALL {
            let name = call.as_str();
            let succeeded = self.succeeded.contains(name) || OF_TWO_PEOPLE.contains(call);
            assert!(succeeded, "{name} was never called with success");
            assert!(self.refused.contains(name), "{name} was never refused");
        }
    }
}

/// A message with a text in each of its texts and bytes, one of each list, and all messages within.
fn filled(of: &MessageDescriptor, text: &str, with_request_id: bool) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let value = match field.kind() {
            Kind::String if field.name() == "request_id" && with_request_id => Value::String(request_id()),
            Kind::String => Value::String(text.to_owned()),
            Kind::Bytes => Value::Bytes(text.as_bytes().to_vec().into()),
            Kind::Message(inner) if inner.package_name() == "sandyq.v1" => {
                Value::Message(filled(&inner, text, with_request_id))
            }
            Kind::Enum(_) => Value::EnumNumber(1),
            Kind::Message(_)
            | Kind::Bool
            | Kind::Double
            | Kind::Float
            | Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed32
            | Kind::Sfixed64 => continue,
        };
        let value = if field.is_list() { Value::List(vec![value]) } else { value };
        message.set_field(&field, value);
    }
    message
}
