//! How far an import is: on a terminal one line that is written over, and JSON lines elsewhere.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::rows::Place;
use crate::cli::output::Out;

const ON_A_TERMINAL: Duration = Duration::from_millis(250);
const IN_A_FILE: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    bytes: u64,
    began: Instant,
    from: Place,
}

impl Progress {
    pub(super) fn new(bytes: u64, from: Place) -> Self {
        Self { bytes, began: Instant::now(), from }
    }

    /// When it is shown.
    pub(super) fn ticks(out: &Out) -> Interval {
        let mut ticks = interval(if out.is_watched() { ON_A_TERMINAL } else { IN_A_FILE });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    pub(super) fn show(&self, at: Place, out: &mut Out) {
        let seconds = self.began.elapsed().as_secs();
        let (rows, read) = (at.rows.saturating_sub(self.from.rows), at.byte.saturating_sub(self.from.byte));
        let rate = rows / seconds.max(1);
        // Rows of one file are about as long as each other: time goes with bytes.
        let left = self.bytes.saturating_sub(at.byte).saturating_mul(seconds).checked_div(read);
        let percent = at.byte.saturating_mul(100).checked_div(self.bytes).unwrap_or(100).min(100);
        if out.is_watched() {
            let left = left.map_or_else(|| "?".to_owned(), clock);
            out.progress(&format!("{percent:>3}%  {} rows  {rate}/s  {left} left", at.rows));
        } else {
            let line = json!({ "progress": {
                "rows": at.rows, "bytes": at.byte, "of_bytes": self.bytes, "rows_per_second": rate, "seconds_left": left,
            }});
            out.progress_line(&line);
        }
    }
}

/// `1:02:03`, or `2:03`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
