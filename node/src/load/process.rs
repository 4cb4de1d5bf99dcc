//! What other processes, the measured ones, cost: from `/proc`.

/// Clock ticks per second in `/proc`: a constant of the kernel's interface on every platform that
/// has it.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Processor time and memory of some processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// User and system time so far, in seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory in bytes.
    pub(super) resident_bytes: u64,
}

/// The sum over the processes; one that is gone counts as nothing.
pub(super) fn usage(pids: &[u32]) -> Usage {
    let all = pids.iter().filter_map(|pid| of(&pid.to_string()));
    all.fold(Usage::default(), |sum, one| Usage {
        cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
        resident_bytes: sum.resident_bytes + one.resident_bytes,
    })
}

/// This process.
pub(super) fn own() -> Usage {
    of("self").unwrap_or_default()
}

fn of(pid: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(Usage {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
        resident_bytes: pages * PAGE_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_occupies_something_and_one_that_is_gone_nothing() {
        assert!(own().resident_bytes > 0);
        assert_eq!(usage(&[u32::MAX]), Usage::default());
        assert!(usage(&[std::process::id()]).resident_bytes > 0);
    }
}
