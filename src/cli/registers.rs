//! What the commands for requests of people, for breaches and for copies have in common.

use serde_json::{Map, Value};

use super::{
    client,
    output::{Failure, Out, exit},
};
use crate::{
    domain::{birth::today_in_kazakhstan, time::Timestamp},
    grpc::pb,
};

pub(super) const CHANNELS: [&str; 7] =
    ["site", "email", "post", "person", "telephone", "state-service", "other-service"];
pub(super) const LANGUAGES: [&str; 3] = ["kk", "ru", "en"];

/// Which register.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct At {
    #[command(flatten)]
    pub(super) client: client::Args,
    /// Platform, for staff; a platform's own callers leave it out.
    #[arg(long, default_value = "")]
    pub(super) platform: String,
}

/// Every row of a list that comes in pages: `every!(calls.list_cases(page_token => request).cases)`.
macro_rules! every {
    ($calls:ident.$list:ident($page_token:ident => $request:expr).$rows:ident) => {{
        let (mut all, mut $page_token) = (Vec::new(), String::new());
        loop {
            let page = $calls.$list($request).await.map_err($crate::cli::output::refused)?.into_inner();
            all.extend(page.$rows);
            $page_token = page.next_page_token;
            if $page_token.is_empty() {
                break all;
            }
        }
    }};
}
pub(super) use every;

/// Which entries of a register are listed: those that are late, all, or those that are open.
pub(super) fn narrowed<T>(overdue: bool, all: bool, [late, every, open]: [T; 3]) -> T {
    match (overdue, all) {
        (true, _) => late,
        (false, true) => every,
        (false, false) => open,
    }
}

/// Prints a list, or that nothing is in it.
pub(super) fn listed<T>(
    out: &mut Out,
    (name, nothing): (&str, &str),
    all: &[T],
    line: impl Fn(&T) -> String,
    json: impl Fn(&T) -> Value,
) -> Result<(), Failure> {
    let lines: Vec<_> =
        if all.is_empty() { vec![nothing.to_owned()] } else { all.iter().map(line).collect() };
    let rows = all.iter().map(json).collect();
    Ok(out.data(&Value::Object(Map::from_iter([(name.to_owned(), rows)])), &lines)?)
}

/// The number of a code as the contract names it: `state-service` of `RIGHTS_CHANNEL_` is `RIGHTS_CHANNEL_STATE_SERVICE`.
pub(super) fn number<T>(prefix: &str, code: &str, of: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    let name = format!("{prefix}{}", code.to_uppercase().replace('-', "_"));
    of(&name).ok_or_else(|| Failure::new(exit::USAGE, format!("{code} is not known")))
}

pub(super) fn channel_of(code: &str) -> Result<i32, Failure> {
    number("RIGHTS_CHANNEL_", code, pb::RightsChannel::from_str_name).map(i32::from)
}

/// A code of the contract as the command shows it.
pub(super) fn code(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

/// A last day as people read it: the day before the midnight at which something is overdue.
pub(super) fn last_day(due: Option<prost_types::Timestamp>) -> String {
    let before = due.map(|due| prost_types::Timestamp { seconds: due.seconds - 1, nanos: 0 });
    before.map(day).unwrap_or_default()
}

/// A day in Kazakhstan.
fn day(time: prost_types::Timestamp) -> String {
    today_in_kazakhstan(at(time)).to_string()
}

/// The second of an answer's time.
pub(super) fn at(time: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(time.seconds.saturating_mul(1_000_000))
}
