//! The order in which a client that comes back is told what it missed.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use crate::cluster::Event;
use crate::protocol;

/// Events of several origins in one order: each origin's as they come, and each member's as it said
/// them. A member that moved from node to node has a higher epoch on each.
pub(super) fn in_order(events: Vec<(String, Event)>) -> Vec<(String, Event)> {
    let mut left: BTreeMap<(Uuid, u32), usize> = BTreeMap::new();
    let mut origins: BTreeMap<String, VecDeque<Event>> = BTreeMap::new();
    let count = events.len();
    for (origin, event) in events {
        *left.entry(said(&event)).or_default() += 1;
        origins.entry(origin).or_default().push_back(event);
    }
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        let before = ordered.len();
        for (origin, queue) in &mut origins {
            while queue.front().is_some_and(|event| is_next(&left, event)) {
                take(origin, queue, &mut left, &mut ordered);
            }
        }
        // What contradicts itself cannot have been said; it is told all the same.
        if ordered.len() == before {
            let next = origins.iter_mut().find(|(_, queue)| !queue.is_empty());
            let Some((origin, queue)) = next else { break };
            take(origin, queue, &mut left, &mut ordered);
        }
    }
    ordered
}

/// Who said it, and in which of its lives.
fn said(event: &Event) -> (Uuid, u32) {
    (event.sender, protocol::epoch_of(&event.payload))
}

/// Whether nothing is left that its sender said before it moved there.
fn is_next(left: &BTreeMap<(Uuid, u32), usize>, event: &Event) -> bool {
    let key = said(event);
    left.range((key.0, 0)..key).next().is_none()
}

fn take(
    origin: &str,
    queue: &mut VecDeque<Event>,
    left: &mut BTreeMap<(Uuid, u32), usize>,
    ordered: &mut Vec<(String, Event)>,
) {
    let Some(event) = queue.pop_front() else {
        return;
    };
    let key = said(&event);
    if let Some(count) = left.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            left.remove(&key);
        }
    }
    ordered.push((origin.to_owned(), event));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn event(number: u64, sender: u128, epoch: u32) -> Event {
        let payload = format!("{{\"epoch\":{epoch},\"name\":\"e\",\"data\":{number}}}");
        Event {
            number,
            sender: Uuid::from_u128(sender),
            payload: payload.into(),
        }
    }

    fn ordered(events: &[(&str, Event)]) -> Vec<String> {
        let events = events.iter();
        let events = events.map(|(origin, event)| ((*origin).to_owned(), event.clone()));
        let ordered = in_order(events.collect()).into_iter();
        ordered
            .map(|(origin, event)| format!("{origin} {}", event.number))
            .collect()
    }

    #[test]
    fn who_moved_is_told_as_it_spoke() {
        let events = [
            ("n1", event(1, 7, 3)),
            ("n1", event(2, 8, 1)),
            ("n2", event(4, 8, 2)),
            ("n2", event(5, 7, 4)),
            ("n3", event(9, 7, 1)),
            ("n3", event(10, 7, 2)),
        ];
        let told = ordered(&events);
        assert_eq!(told, ["n3 9", "n3 10", "n1 1", "n1 2", "n2 4", "n2 5"]);
    }

    #[test]
    fn what_contradicts_itself_is_told_once_too() {
        let events = [
            ("n1", event(1, 7, 2)),
            ("n1", event(2, 8, 1)),
            ("n2", event(1, 8, 2)),
            ("n2", event(2, 7, 1)),
        ];
        let mut told = ordered(&events);
        told.sort();
        assert_eq!(told, ["n1 1", "n1 2", "n2 1", "n2 2"]);
    }
}
