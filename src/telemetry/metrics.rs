//! Metrics as Prometheus reads them (text format 0.0.4), rendered when it asks. `docs/telemetry.md` lists every one, and
//! a test holds the list to the endpoint.
//!
//! Labels are names that operators and the code declare: platforms, calls, reasons, kinds, states. Their number is
//! bounded by the code, and by the number of platforms.

use std::fmt::{Display, Write as _};

use super::process;
use crate::{
    domain::{
        operation::{OperationKind, OperationState},
        rights::RightKind,
        staff_key::KeyRule,
        time::Timestamp,
    },
    vault::{
        Vault,
        histogram::Histogram,
        meters::{Meters, PlatformMeasure},
    },
};

/// Microseconds of a second.
const MICROS: f64 = 1_000_000.0;
/// Package and prefix of calls, as the semantic conventions write an RPC's method.
const PACKAGE: &str = "sandyq.v1.";

/// Everything that this process measures.
#[must_use]
pub fn render(vault: &Vault) -> String {
    let mut text = Text::default();
    let meters = vault.meters();
    process_itself(&mut text, meters);
    health(&mut text, vault, meters);
    calls(&mut text, vault, meters);
    decisions(&mut text, meters);
    lanes(&mut text, meters);
    operations(&mut text, meters, vault.clock().now());
    let measures = vault.measures();
    rights(&mut text, meters, &measures);
    open_rows(&mut text, meters, &measures);
    platforms(&mut text, &measures);
    text.0
}

fn process_itself(text: &mut Text, meters: &Meters) {
    text.gauge("sandyq_build_info", "Version of the binary.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.gauge("process_start_time_seconds", "When the process started.")
        .sample(&[], seconds(meters.started_at));
    let Some(process) = process::read() else { return };
    text.gauge("process_resident_memory_bytes", "Memory that is resident.")
        .sample(&[], process.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Memory that is mapped.").sample(&[], process.virtual_bytes);
    text.gauge("process_threads", "Threads.").sample(&[], process.threads);
    text.gauge("process_open_fds", "Open files and connections.").sample(&[], process.open_files);
    text.counter("process_cpu_seconds_total", "Processor time, user and system.")
        .sample(&[], process.cpu_seconds);
}

fn health(text: &mut Text, vault: &Vault, meters: &Meters) {
    let ready = *vault.readiness().borrow();
    text.gauge("sandyq_ready", "1 while the process can serve.").sample(&[], u8::from(ready));
    text.gauge("sandyq_kms_up", "1 while the KMS answers.").sample(&[], u8::from(meters.kms_answers()));
    let fit = u8::from(meters.certificates().fit());
    text.gauge("sandyq_certificates_fit", "1 while the certificates of the files are those that are served.")
        .sample(&[], fit);
    let [server, authority] = meters.certificates().until();
    let mut ends = text.gauge(
        "sandyq_certificate_expires_timestamp_seconds",
        "When the first certificate in use ends, of the server's own and of the authorities' roots.",
    );
    ends.sample(&[("of", "SERVER")], micros(server));
    ends.sample(&[("of", "AUTHORITY")], micros(authority));
    let begun = u8::from(vault.key_rule() == KeyRule::Begun);
    text.gauge(
        "sandyq_staff_keys_begun",
        "1 while hardware keys are required and fewer than two people have one: staff can do nothing else.",
    )
    .sample(&[], begun);
    text.gauge("sandyq_horizon_in_force", "1 while a standing plan keeps the horizon of backups.")
        .sample(&[], u8::from(vault.horizon_holds() == Some(true)));
    let [outside, unseen] = meters.residency();
    let mut places =
        text.gauge("sandyq_residency_places", "Places that are not seen inside the declared sites.");
    places.sample(&[("seen", "OUTSIDE")], outside);
    places.sample(&[("seen", "UNSEEN")], unseen);
    text.gauge("sandyq_clock_offset_seconds", "How far this machine's clock is from the database's.")
        .sample(&[], micros(meters.clock_off_micros()));
    text.gauge("sandyq_replicas", "Processes that live over this database.").sample(&[], meters.replicas());
}

fn calls(text: &mut Text, vault: &Vault, meters: &Meters) {
    let mut family = text.counter("sandyq_calls_total", "Calls by method and status of the answer.");
    for (call, status, count) in meters.statuses() {
        let method = method(call);
        family.sample(&[("rpc_method", &method), ("rpc_response_status_code", status)], count);
    }
    let [sent, lost] = vault.traces().map_or([0; 2], |traces| traces.counts());
    let mut family = text.counter("sandyq_trace_spans_total", "Spans by whether their collector has them.");
    family.sample(&[("outcome", "sent")], sent);
    family.sample(&[("outcome", "lost")], lost);
    let help = "Time from a call's head to its answer's head.";
    let mut family = text.family("rpc_server_call_duration_seconds", "histogram", help);
    for (call, times) in meters.times() {
        family.histogram(&[("rpc_method", &method(call))], times, MICROS);
    }
    let mut family = text.counter(
        "sandyq_refusals_total",
        "Refusals before a decision: strangers, malformed tokens, full lanes.",
    );
    for (reason, count) in meters.refusals() {
        family.sample(&[("reason", reason)], count);
    }
}

fn decisions(text: &mut Text, meters: &Meters) {
    let mut family = text.counter(
        "sandyq_decisions_total",
        "Decisions whose log entries are durable, by call, verdict and reason of a denial.",
    );
    for (call, verdict, reason, count) in meters.decisions() {
        family.sample(&[("call", call), ("verdict", verdict), ("reason", reason)], count);
    }
    let mut family = text
        .counter("sandyq_budget_exhausted_total", "Questions refused since a caller's budget was used up.");
    for (kind, count) in meters.exhausted() {
        family.sample(&[("kind", kind)], count);
    }
    let help = "How often a caller had spent four fifths of its budget of values for a purpose.";
    let mut family = text.counter("sandyq_budget_nearly_exhausted_total", help);
    for (kind, count) in meters.nearly_exhausted() {
        family.sample(&[("kind", kind)], count);
    }
    text.counter("sandyq_damaged_rows_total", "Stored rows that failed their authentication.")
        .sample(&[], meters.damaged());
    let mut family = text.counter("sandyq_reconciliations_total", "Comparisons of log and rows by outcome.");
    for (outcome, count) in meters.comparisons() {
        family.sample(&[("outcome", outcome)], count);
    }
    text.gauge(
        "sandyq_reconciled_timestamp_seconds",
        "When log and rows were last compared here; 0 for not yet.",
    )
    .sample(&[], seconds(meters.compared_at()));
}

fn lanes(text: &mut Text, meters: &Meters) {
    text.family("sandyq_lane_batch_items", "histogram", "Items that were read together.").histogram(
        &[],
        &meters.batch_items,
        1.0,
    );
    text.counter(
        "sandyq_lane_warm_items_total",
        "Items that were decided on rows that an earlier read brought, without a read.",
    )
    .sample(&[], meters.warm_items());
    text.family("sandyq_lane_read_duration_seconds", "histogram", "Time of a batch's one read.").histogram(
        &[],
        &meters.read,
        MICROS,
    );
    text.family("sandyq_lane_commit_duration_seconds", "histogram", "Time to sign and commit a batch.")
        .histogram(&[], &meters.commit, MICROS);
    let mut family = text.counter("sandyq_lane_commits_total", "Attempts at a commit by outcome.");
    for (outcome, count) in meters.commits() {
        family.sample(&[("outcome", outcome)], count);
    }
}

fn operations(text: &mut Text, meters: &Meters, now: Timestamp) {
    let open = meters.open_operations();
    let mut family =
        text.gauge("sandyq_operations_open", "Operations that have not ended, by kind and state.");
    for kind in OperationKind::ALL {
        for state in [OperationState::Waiting, OperationState::Running, OperationState::Paused] {
            let found = open.iter().find(|some| some.kind == *kind && some.state == state);
            let count = found.map_or(0, |some| some.count);
            family.sample(&[("kind", kind.as_str()), ("state", state.as_str())], count);
        }
    }
    let help = "How long the first open operation of a kind is overdue; 0 where none is.";
    let mut family = text.gauge("sandyq_operations_overdue_seconds", help);
    for kind in OperationKind::ALL {
        let due = open.iter().filter(|some| some.kind == *kind).map(|some| some.due_at).min();
        let overdue = due.map_or(0, |due| now.as_micros().saturating_sub(due.as_micros()).max(0));
        family.sample(&[("kind", kind.as_str())], micros(overdue));
    }
    let mut family =
        text.counter("sandyq_operations_ended_total", "Operations that this process ended, by state.");
    for (kind, state, count) in meters.ended_operations() {
        family.sample(&[("kind", kind), ("state", state)], count);
    }
}

fn rights(text: &mut Text, meters: &Meters, measures: &[PlatformMeasure]) {
    let open = meters.open_registers().cases;
    for (name, help, overdue) in [
        ("sandyq_rights_cases_open", "Requests of people about their data without an answer.", false),
        ("sandyq_rights_cases_overdue", "Those of them whose time by law and policy is over.", true),
    ] {
        let mut family = text.gauge(name, help);
        for measure in measures {
            for kind in RightKind::ALL {
                let found = open.iter().find(|some| some.platform == measure.platform && some.kind == *kind);
                let count = found.map_or(0, |some| if overdue { some.overdue } else { some.count });
                family.sample(&[("platform", measure.name.as_str()), ("kind", kind.as_str())], count);
            }
        }
    }
}

/// Breaches, copies and blocks: how many stand open, and how many of these are overdue.
fn open_rows(text: &mut Text, meters: &Meters, measures: &[PlatformMeasure]) {
    let open = meters.open_registers();
    let breaches: Vec<_> = open.breaches.iter().map(|b| (b.platform, [b.count, b.overdue])).collect();
    let copies: Vec<_> = open.copies.iter().map(|c| (c.platform, [c.count, c.overdue])).collect();
    let blocks: Vec<_> = open.restrictions.iter().map(|b| (b.platform, [b.count, b.overdue])).collect();
    for (name, help, rows, at) in [
        (
            "sandyq_breaches_open",
            "Breaches of the security of personal data that have not ended.",
            &breaches,
            0,
        ),
        (
            "sandyq_breaches_overdue",
            "Those of them of which the authority was not told in its day.",
            &breaches,
            1,
        ),
        ("sandyq_copies_open", "Copies of data outside the vault that have not ended.", &copies, 0),
        ("sandyq_copies_overdue", "Those of them that should be destroyed by now.", &copies, 1),
        ("sandyq_restrictions_open", "Subjects whose data are blocked.", &blocks, 0),
        ("sandyq_restrictions_overdue", "Those of them whose day of review is over.", &blocks, 1),
    ] {
        let mut family = text.gauge(name, help);
        for measure in measures {
            let found = rows.iter().find(|(platform, _)| *platform == measure.platform);
            let count = found.and_then(|(_, counts)| counts.get(at).copied()).unwrap_or(0);
            family.sample(&[("platform", measure.name.as_str())], count);
        }
    }
}

fn platforms(text: &mut Text, measures: &[PlatformMeasure]) {
    let mut each = |name, help, value: &dyn Fn(&PlatformMeasure) -> Option<f64>| {
        let mut family = text.gauge(name, help);
        for measure in measures {
            if let Some(value) = value(measure) {
                family.sample(&[("platform", measure.name.as_str())], value);
            }
        }
    };
    each("sandyq_lane_queue_items", "Items that wait in a platform's lane or are being committed.", &|m| {
        Some(count(m.queued))
    });
    each("sandyq_log_entries", "Entries of a platform's log, as far as this process knows.", &|m| {
        Some(float(m.log_entries))
    });
    each("sandyq_platform_closed", "1 while a platform waits for two people after a restore.", &|m| {
        Some(f64::from(u8::from(m.closed)))
    });
    each("sandyq_keys_loaded", "1 while every key version that may be needed is loaded.", &|m| {
        Some(f64::from(u8::from(m.keys_loaded)))
    });
    each("sandyq_mirror_lag_entries", "Entries that the mirror does not have yet.", &|m| {
        m.mirror.map(|mirror| float(mirror.behind))
    });
    each("sandyq_mirror_complete_timestamp_seconds", "When the mirror last had every entry.", &|m| {
        m.mirror.map(|mirror| seconds(mirror.complete_at))
    });
    each("sandyq_mirror_contradicted", "1 while a log contradicts its mirror and is not served.", &|m| {
        m.mirror.map(|mirror| f64::from(u8::from(mirror.contradicted)))
    });
    let mut family = text.gauge("sandyq_key_versions", "Key versions by kind and state.");
    for measure in measures {
        for (kind, state, count) in &measure.key_versions {
            let platform = measure.name.as_str();
            family.sample(&[("platform", platform), ("kind", kind), ("state", state.as_str())], count);
        }
    }
    let mut family = text
        .gauge("sandyq_key_active_created_timestamp_seconds", "When the active version of a key was made.");
    for measure in measures {
        for (kind, created_at) in &measure.active_keys {
            family.sample(&[("platform", measure.name.as_str()), ("kind", kind)], seconds(*created_at));
        }
    }
}

/// The method as the semantic conventions name it.
pub(super) fn method(call: &str) -> String {
    if call.contains('/') { format!("{PACKAGE}{call}") } else { call.to_owned() }
}

fn seconds(at: Timestamp) -> f64 {
    micros(at.as_micros())
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a measure needs no more digits")]
fn micros(micros: i64) -> f64 {
    micros as f64 / MICROS
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a measure needs no more digits")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn count(count: usize) -> f64 {
    float(u64::try_from(count).unwrap_or(u64::MAX))
}

/// The text that grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) -> Family<'_> {
        line(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        Family { text: &mut self.0, name }
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "counter", help)
    }
}

/// One metric with its samples.
struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

/// Names and values. Values come from closed sets and checked names, in which nothing needs an escape.
type Labels<'l> = &'l [(&'l str, &'l str)];

impl Family<'_> {
    fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        let labels = braces(labels, None);
        line(self.text, format_args!("{}{labels} {value}", self.name));
    }

    /// Buckets, sum and count, with values divided by `unit`.
    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram, unit: f64) {
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| (float(bound) / unit).to_string());
            line(self.text, format_args!("{}_bucket{} {count}", self.name, braces(labels, Some(&bound))));
            all = count;
        }
        let (sum, labels) = (float(histogram.sum()) / unit, braces(labels, None));
        line(self.text, format_args!("{0}_sum{labels} {sum}\n{0}_count{labels} {all}", self.name));
    }
}

fn braces(labels: Labels<'_>, bound: Option<&str>) -> String {
    let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let all: Vec<_> = all.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _written = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.gauge("a_bytes", "Bytes.").sample(&[], 7);
        text.counter("b_total", "Some.").sample(&[("kind", "x"), ("state", "y")], 2);
        let expected = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 7\n\
                        # HELP b_total Some.\n# TYPE b_total counter\nb_total{kind=\"x\",state=\"y\"} 2\n";
        assert_eq!(text.0, expected);
        assert_eq!(method("VaultService/Detokenize"), "sandyq.v1.VaultService/Detokenize");
        assert_eq!(method("_OTHER"), "_OTHER");
    }
}
