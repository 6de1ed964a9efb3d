//! What the kernel says of this process. Elsewhere than on Linux it says nothing.

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

/// The number after a name.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15. The second field is the program's name in brackets, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = |text: &str| text.parse::<f64>().ok();
    Some((ticks(fields.next()?)? + ticks(fields.next()?)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(number("Name:\tx\nVmRSS:\t  120 kB\n", "VmRSS:"), Some(120));
        assert_eq!(number("Name:\tx\n", "VmRSS:"), None);
    }
}
