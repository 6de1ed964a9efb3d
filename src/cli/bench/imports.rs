//! People of a file, stored by `sandyq import`: how fast beside echo, and in how much memory.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    Failure,
    job::{Pace, Until},
    measure::{Ground, Subject},
    numbers::{float, median, micros},
    process::{self, Spent},
    report::rounded,
};
use crate::{
    cli::import::CONSENT,
    crypto::{digest::sha256, random::SystemRng},
    domain::rng::random_bytes,
};

/// Callers at once of the echo that it is held against.
const CALLERS: u32 = 64;
/// Values of a row: records of the vault.
const RECORDS: u64 = 4;
/// A file with so many times fewer rows shows whether memory grows with the file.
const FEWER: u64 = 10;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    /// Of the echo beside each import.
    pub(super) until: Until,
    /// Rows of each file.
    pub(super) rows: u64,
}

/// What imports came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Imports {
    scenario: &'static str,
    rows: u64,
    records: u64,
    rows_per_second: f64,
    records_per_second: f64,
    ratio_to_echo: Option<f64>,
    server_cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
    commits_per_row: f64,
    peak_bytes: Option<u64>,
    peak_bytes_of_fewer: Option<u64>,
}

impl Imports {
    pub(super) fn lines(&self) -> Vec<String> {
        let mib =
            |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), |bytes| (bytes >> 20).to_string());
        let ratio = self.ratio_to_echo.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        vec![
            String::new(),
            format!(
                "imports of {} rows with {RECORDS} values and a consent: {:.0} rows and {:.0} records a second, {ratio} of echo",
                self.rows, self.rows_per_second, self.records_per_second
            ),
            format!(
                "  the importer took {} MiB, and {} MiB for a file of a tenth",
                mib(self.peak_bytes),
                mib(self.peak_bytes_of_fewer)
            ),
        ]
    }
}

/// One import, a row.
struct Run {
    rows_per_second: f64,
    server_cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
    commits: f64,
    peak_bytes: Option<u64>,
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Imports, Failure> {
    told("a smaller file", 0);
    let fewer = import(ground, (plan.rows / FEWER).max(1)).await?;
    let (mut runs, mut ratios) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        told("echo", round);
        let echo = ground.slice(Subject::Echo, Pace::Closed(CALLERS), plan.until).await?;
        told("import", round);
        let run = import(ground, plan.rows).await?;
        if echo.calls_per_second > 0.0 {
            ratios.push(run.rows_per_second * float(RECORDS) / echo.calls_per_second);
        }
        runs.push(run);
    }
    let known = |of: fn(&Run) -> Option<f64>| median(runs.iter().filter_map(of)).map(rounded);
    let rows_per_second = median(runs.iter().map(|run| run.rows_per_second)).unwrap_or_default();
    Ok(Imports {
        scenario: "import",
        rows: plan.rows,
        records: plan.rows * RECORDS,
        rows_per_second: rounded(rows_per_second),
        records_per_second: rounded(rows_per_second * float(RECORDS)),
        ratio_to_echo: median(ratios).map(rounded),
        server_cpu_us: known(|run| run.server_cpu_us),
        database_cpu_us: known(|run| run.database_cpu_us),
        commits_per_row: known(|run| Some(run.commits)).unwrap_or_default(),
        peak_bytes: runs.iter().filter_map(|run| run.peak_bytes).max(),
        peak_bytes_of_fewer: fewer.peak_bytes,
    })
}

/// Imports a file of people whom the vault does not have.
async fn import(ground: &mut Ground, rows: u64) -> Result<Run, Failure> {
    let name = HEXLOWER.encode(&random_bytes::<6>(&SystemRng::new())?);
    let dir = ground.house.installation.dir().join(&name);
    std::fs::create_dir(&dir)?;
    let file = dir.join("people.csv");
    write(&file, &name, rows)?;
    let (watched, connection) =
        (ground.watched(Subject::Tokenize), ground.house.installation.connection_path("backend"));
    let (commits, before) = (ground.house.commits().await?, watched.spent());
    let (took, peak_bytes) = process::import(&connection, &file).await?;
    let (after, commits) = (watched.spent(), ground.house.commits().await?.saturating_sub(commits));
    std::fs::remove_dir_all(&dir)?;
    let each = |of: fn(&Spent) -> Option<u64>| {
        of(&before).zip(of(&after)).map(|(before, after)| float(after.saturating_sub(before)) / float(rows))
    };
    Ok(Run {
        rows_per_second: float(rows) * 1_000_000.0 / float(micros(took).max(1)),
        server_cpu_us: each(|spent| spent.server),
        database_cpu_us: each(|spent| spent.database),
        commits: float(commits) / float(rows),
        peak_bytes,
    })
}

/// Synthetic people as the scenario `tokenize` stores them.
fn write(path: &Path, name: &str, rows: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let hash = HEXLOWER.encode(&sha256(b"synthetic consent text"));
    let parts = CONSENT.map(|part| format!(",consent.{part}")).concat();
    writeln!(file, "subject,surname,first_name,phone,email{parts}")?;
    for row in 1..=rows {
        let (hundreds, rest) = (row / 100 % 100, row % 100);
        writeln!(
            file,
            "bench-{name}-{row},Сынақова,Үлгі,+7 701 000 {hundreds:02} {rest:02},bench-{name}-{row}@example.kz,request_comms,\
             surname first_name phone email,Сынақова Үлгі,tick,true,false,false,1,ru,{hash},skillbox.kz,2026-09-21T13:33:20Z,,,"
        )?;
    }
    file.flush()
}
