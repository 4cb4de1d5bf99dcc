//! Members that left a room lately, so that a message that comes late does not bring them back.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// How many are remembered; the oldest is forgotten first.
const DEPARTED_MAX: usize = 4096;

/// A bounded set of member ids.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// With the number of the departure, as one member may leave, come back and leave again.
    members: HashMap<Uuid, u64>,
    order: VecDeque<(Uuid, u64)>,
    count: u64,
}

impl Departed {
    /// Remembers a departure; false if it is known already.
    pub(crate) fn insert(&mut self, member: Uuid) -> bool {
        if self.members.contains_key(&member) {
            return false;
        }
        self.count += 1;
        self.members.insert(member, self.count);
        self.order.push_back((member, self.count));
        if self.order.len() > DEPARTED_MAX
            && let Some((oldest, number)) = self.order.pop_front()
            && self.members.get(&oldest) == Some(&number)
        {
            self.members.remove(&oldest);
        }
        true
    }

    /// The member is back.
    pub(crate) fn remove(&mut self, member: Uuid) {
        self.members.remove(&member);
    }

    /// Whether the member left and did not come back.
    pub(crate) fn contains(&self, member: Uuid) -> bool {
        self.members.contains_key(&member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut departed = Departed::default();
        for id in 0..=DEPARTED_MAX as u128 {
            assert!(departed.insert(Uuid::from_u128(id)));
        }
        assert!(!departed.contains(Uuid::from_u128(0)));
        assert!(departed.contains(Uuid::from_u128(1)));
        assert_eq!(departed.members.len(), DEPARTED_MAX);
    }

    #[test]
    fn a_member_that_comes_back_may_leave_again() {
        let mut departed = Departed::default();
        let member = Uuid::from_u128(1);
        assert!(departed.insert(member));
        assert!(!departed.insert(member));
        departed.remove(member);
        assert!(!departed.contains(member));
        assert!(departed.insert(member));
        for id in 2..=DEPARTED_MAX as u128 {
            departed.insert(Uuid::from_u128(id));
        }
        assert!(
            departed.contains(member),
            "its first departure is forgotten, its second is not"
        );
    }
}
