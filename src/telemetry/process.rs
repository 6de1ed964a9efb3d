//! What the kernel says of processes. Elsewhere than on Linux it says nothing.

use std::fs;

/// This process, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    pub(super) cpu_seconds: f64,
}

/// Ticks a second in `/proc/self/stat`: the same on every Linux (`USER_HZ`).
const TICKS: f64 = 100.0;
const MICROS_OF_A_TICK: u64 = 10_000;

/// Reads `/proc/self`.
pub(super) fn read() -> Option<Process> {
    let (status, stat) =
        (fs::read_to_string("/proc/self/status").ok()?, fs::read_to_string("/proc/self/stat").ok()?);
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Process {
        resident_bytes: number(&status, "VmRSS:")?.saturating_mul(1_024),
        virtual_bytes: number(&status, "VmSize:")?.saturating_mul(1_024),
        threads: number(&status, "Threads:")?,
        open_files: u64::try_from(open_files).ok()?,
        cpu_seconds: cpu_seconds(&stat)?,
    })
}

/// Processor time of a process in microseconds, user and system, with that of its children that ended.
#[must_use]
pub fn cpu_micros(pid: u32) -> Option<u64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.checked_mul(MICROS_OF_A_TICK)
}

/// The process that started another one.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.nth(1)?.parse().ok()
}

/// The name of a process's program.
#[must_use]
pub fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// Processes that a process started.
#[must_use]
pub fn children(of: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| parent(*pid) == Some(of)).collect()
}

/// Most memory that a process has had resident since its start, or since [`forget_peak`].
#[must_use]
pub fn peak_bytes(pid: u32) -> Option<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")?.checked_mul(1_024)
}

/// Lets [`peak_bytes`] begin anew. Where the kernel does not let it, the peak is that since the start.
pub fn forget_peak(pid: u32) {
    let _reset = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The number after a name.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields from the third on. The second is the program's name in brackets, which may hold anything.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace())
}

/// User and system time: fields 14 and 15.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = fields(stat)?.skip(11);
    let ticks = |text: &str| text.parse::<f64>().ok();
    Some((ticks(fields.next()?)? + ticks(fields.next()?)?) / TICKS)
}

/// The same with that of children that ended and were waited for: fields 14 to 17.
fn ticks(stat: &str) -> Option<u64> {
    fields(stat)?.skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(ticks("77 (a) S 1 2 3 4 5 6 7 8 9 10 250 50 13 7 20 0"), Some(320));
        assert_eq!(fields(stat).and_then(|mut fields| fields.nth(1)), Some("1"));
        assert_eq!(number("Name:\tx\nVmRSS:\t  120 kB\n", "VmRSS:"), Some(120));
        assert_eq!(number("Name:\tx\n", "VmRSS:"), None);
    }
}
