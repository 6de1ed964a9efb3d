//! What the registers of requests and of breaches take and answer alike.

use std::{fmt::Display, pin::Pin, str::FromStr};

use tokio::sync::mpsc::Receiver;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::Status;

use super::{codes::same, convert::Checker, pb, status::status};
use crate::{
    domain::{consent::Language, reference::Reference, rights::RightsChannel, time::Timestamp},
    vault::error::VaultError,
};

same!(
    pub(super) channel,
    channel_pb,
    RightsChannel { Site, Email, Post, Person, Telephone, StateService, OtherService }
);

/// Messages that come one after the other.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the vault tells step by step, each step as a message.
pub(super) fn answers<S: Send + 'static, T: 'static>(
    steps: Receiver<Result<S, VaultError>>,
    one: fn(S) -> T,
) -> Answers<T> {
    Box::pin(ReceiverStream::new(steps).map(move |next| next.map(one).map_err(|e| status(&e))))
}

/// Codes of which none stands twice, so that there are no more than there are of them in all.
pub(super) fn distinct<T: PartialEq>(
    check: &mut Checker,
    field: &str,
    numbers: &[i32],
    all: usize,
    code: impl Fn(i32) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for (i, number) in numbers.iter().take(all + 1).enumerate() {
        match check.code(&format!("{field}[{i}]"), code(*number)) {
            Some(code) if found.contains(&code) => {
                check.refuse(&format!("{field}[{i}]"), "stands twice");
            }
            Some(code) => found.push(code),
            None => {}
        }
    }
    found
}

/// How somebody was told, and in which language.
pub(super) fn told(check: &mut Checker, by: i32, language: &str) -> Option<(RightsChannel, Language)> {
    let by = check.code("channel", channel(by));
    let language = check.parse("language", language);
    by.zip(language)
}

/// Where a page of a list by date and id begins.
pub(super) fn place<T: FromStr>(token: &str) -> Result<Option<(Timestamp, T)>, VaultError> {
    if token.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (due, id) = token.split_once('.')?;
        Some((Timestamp::from_micros(due.parse().ok()?), id.parse().ok()?))
    };
    parse().map(Some).ok_or(VaultError::invalid("page_token", "not a page of this list"))
}

/// The token of such a place.
pub(super) fn place_token<T: Display>(next: Option<(Timestamp, T)>) -> String {
    next.map(|(due, id)| format!("{}.{id}", due.as_micros())).unwrap_or_default()
}

/// A hash that may be missing.
pub(super) fn optional_hash(check: &mut Checker, field: &str, bytes: &[u8]) -> Option<[u8; 32]> {
    let hash = bytes.try_into().ok();
    if hash.is_none() && !bytes.is_empty() {
        check.refuse(field, "must have 32 bytes, or none");
    }
    hash
}

/// A reference as it is answered: empty where there is none.
pub(super) fn reference(reference: Option<&Reference>) -> String {
    reference.map(ToString::to_string).unwrap_or_default()
}
