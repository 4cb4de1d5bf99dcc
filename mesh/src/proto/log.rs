//! The owner's log: the recent operations of this node, numbered.

use std::collections::VecDeque;
use std::time::Duration;

use super::identity::Time;
use super::wire::Op;

const OPS_MAX: usize = 8_192;
const BYTES_MAX: usize = 1024 * 1024;
/// Who lacks operations that are older than this may as well take a snapshot; so many stay all the same.
const AGE_MAX: Duration = Duration::from_secs(60);
const OPS_MIN: usize = 32;

/// A ring of the newest operations. What has left it is only in snapshots.
#[derive(Debug, Default)]
pub(super) struct Log {
    ops: VecDeque<(Time, Op)>,
    bytes: usize,
    seq: u64,
}

impl Log {
    /// Operations written so far.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Writes an operation and returns its number.
    pub(super) fn push(&mut self, now: Time, op: Op) -> u64 {
        self.bytes += op.size_hint();
        self.ops.push_back((now, op));
        self.seq += 1;
        while let Some((at, _)) = self.ops.front() {
            let old = self.ops.len() > OPS_MIN && now.since(*at) > AGE_MAX;
            if !old && self.ops.len() <= OPS_MAX && self.bytes <= BYTES_MAX {
                break;
            }
            if let Some((_, op)) = self.ops.pop_front() {
                self.bytes -= op.size_hint();
            }
        }
        self.seq
    }

    /// Operations `from`+1 onwards, at most about `bytes_max`, and the number of the last one.
    /// `None` if the log does not reach back that far. Empty if there are none.
    pub(super) fn after(&self, from: u64, bytes_max: usize) -> Option<(Vec<Op>, u64)> {
        let oldest = self.seq - self.ops.len() as u64;
        let skip = usize::try_from(from.checked_sub(oldest)?).ok()?;
        let mut bytes = 0;
        let ops: Vec<Op> = self
            .ops
            .iter()
            .skip(skip)
            .map(|(_, op)| op)
            .take_while(|op| {
                let first = bytes == 0;
                bytes += op.size_hint();
                first || bytes <= bytes_max
            })
            .cloned()
            .collect();
        let to = from + ops.len() as u64;
        Some((ops, to))
    }

    /// Forgets all operations but not their count: peers must take a snapshot.
    pub(super) fn forget(&mut self) {
        self.ops.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto::RoomName;

    fn op(n: u32) -> Op {
        Op::Watch(RoomName::new(&format!("room-{n}")).unwrap())
    }

    #[test]
    fn hands_out_what_follows_a_number() {
        let mut log = Log::default();
        (0..10).for_each(|n| assert_eq!(log.push(Time::default(), op(n)), u64::from(n) + 1));
        let (ops, to) = log.after(7, 1_000_000).unwrap();
        assert_eq!((ops, to), (vec![op(7), op(8), op(9)], 10));
        assert_eq!(log.after(10, 1_000_000).unwrap(), (vec![], 10));
    }

    #[test]
    fn gives_at_least_one_operation_however_small_the_budget() {
        let mut log = Log::default();
        (0..3).for_each(|n| {
            log.push(Time::default(), op(n));
        });
        assert_eq!(log.after(0, 1).unwrap(), (vec![op(0)], 1));
    }

    #[test]
    fn reaches_back_only_so_far() {
        let mut log = Log::default();
        (0..20_000).for_each(|n| {
            log.push(Time::default(), op(n));
        });
        assert!(log.after(0, 1_000).is_none());
        assert!(log.after(20_000 - OPS_MAX as u64, 1_000).is_some());
        log.forget();
        assert!(log.after(19_999, 1_000).is_none());
        assert_eq!(log.after(20_000, 1_000).unwrap().0, vec![]);
    }

    #[test]
    fn what_is_old_goes_when_there_is_more() {
        let mut log = Log::default();
        for n in 0..1_000 {
            log.push(Time::default().after(Duration::from_secs(n.into())), op(n));
        }
        let young = AGE_MAX.as_secs() + 1;
        assert!(log.after(1_000 - young, 1_000).is_some());
        assert!(log.after(1_000 - young - 1, 1_000).is_none());
        let much_later = Time::default().after(Duration::from_secs(100_000));
        log.push(much_later, op(0));
        assert!(log.after(1_001 - OPS_MIN as u64, 1_000).is_some());
        assert!(log.after(1_001 - OPS_MIN as u64 - 1, 1_000).is_none());
    }

    #[test]
    fn a_number_from_the_future_has_nothing_after_it() {
        let log = Log::default();
        assert_eq!(log.after(5, 1_000).unwrap().0, vec![]);
    }
}
