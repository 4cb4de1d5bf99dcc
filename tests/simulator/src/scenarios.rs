//! Directed runs: situations that chance rarely brings about, each around one rule.
//!
//! A scenario returns what was violated. With every rule in force that is nothing; without the rule
//! it is about, it is something.

use cursormesh_mesh::proto::event::{Message, MessageKind};
use cursormesh_mesh::proto::wire::{Delta, Digest, Frame, Messages, Op, OwnerId, Relay, VERSION};
use cursormesh_mesh::proto::{Lane, MemberId, Rules};

use crate::network::Path;
use crate::room;
use crate::world::{MS, SECOND, Setup, World};

/// A directed run under some rules.
pub type Scenario = fn(&Rules) -> Vec<String>;

/// All scenarios, by name.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("more operations at once than a log keeps", overrun_log),
    ("a late word of a dead node to a newcomer", late_word),
    ("evidence at second hand", late_evidence),
    ("a pause does not make the dead younger", pause_over_death),
    ("the pointer outruns the row", pointer_first),
    ("a pointer to a dead node", dead_end),
    ("a token from before the last move", old_token),
    ("a delta of a life that is over", old_life),
    ("a delta comes twice", delta_twice),
    ("a message comes twice", message_twice),
    ("a position outruns its member", position_first),
    ("a relay frame at second hand", second_hand),
    ("a cut with a way around", way_around),
    ("ten minutes of loss", lossy),
    ("a leave outruns the last message", leave_first),
    ("an older row behind a partition", older_row),
    ("a room left and entered again", entered_again),
    ("what is over is purged", purged),
    ("a node leaves and its members move on", lingered),
    ("a table at second hand", second_hand_table),
    ("a snapshot breaks off", broken_snapshot),
    ("a node stands still", stood_still),
    ("a clock set back behind a relay", set_back),
    ("more than a slow link takes", too_slow),
    ("a relay drops the last message", dropped_tail),
    ("a link breaks with the last message on it", torn_tail),
    ("who enters a quiet room", quiet_room),
    ("a third node's answer, and the rest", pinned),
    ("a region with two nodes", one_copy),
    ("a gateway dies", gateway_dies),
    ("the first words outrun the join", first_words),
    ("every node starts again in turn", in_turn),
    ("a near node does not answer", near_silence),
    ("a far link breaks and is dialled again", far_redial),
];

fn world(nodes: usize, rules: &Rules, latency_us: u64) -> World {
    let path = Path {
        jitter_us: 0,
        ..Path::clean(latency_us)
    };
    World::new(&Setup {
        rules: rules.clone(),
        ..Setup::new(nodes, 1, path)
    })
}

/// One flush holds more operations than the log: peers learn from a digest that they lack some.
fn overrun_log(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(SECOND);
    for _ in 0..8_400 {
        world.update(member);
    }
    world.run_for(4 * SECOND);
    world.check_converged();
    world.violations().to_vec()
}

/// A newcomer's first word of a node is a digest that was held up on its way, and the node is dead.
fn late_word(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 200 * MS);
    world.crash(2);
    world.run_for(5 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(2 * SECOND);
    world.crash(0);
    world.run_for(2 * SECOND);
    world.start(2);
    for _ in 0..3_000 {
        if world.is_linked(1, 2) {
            break;
        }
        world.run_for(MS);
    }
    world.cut(1, 2);
    world.run_for(1_900 * MS);
    world.heal(1, 2);
    world.run_for(6 * SECOND);
    let (joins, _) = world.joins_and_leaves(2, member);
    world.expect(joins == 0, "a newcomer shows nobody of a dead node");
    world.violations().to_vec()
}

/// A node that another knows through a third dies: its last heartbeat is passed on up to half a
/// second later, and is that much older.
fn late_evidence(rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    for phase in 0..4 {
        let mut world = world(3, rules, 5 * MS);
        world.run_for(5 * SECOND);
        let member = world.join(0, &room(0), true);
        world.cut_both(0, 2);
        world.run_for(7 * SECOND + phase * 500 * MS + 10 * MS);
        world.expect(world.shows(2, member), "it is known through the third node");
        world.crash(0);
        world.run_for(4_250 * MS);
        world.expect(!world.shows(2, member), "it is hidden 4.25 s after its end");
        found.extend(world.violations().to_vec());
    }
    found
}

/// A node that was stopped holds what was fresh for fresh, but tells others its true age.
fn pause_over_death(rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    for phase in 0..5 {
        let mut world = world(3, rules, 5 * MS);
        world.run_for(5 * SECOND);
        let member = world.join(0, &room(0), true);
        world.run_for(2 * SECOND);
        world.cut_both(0, 2);
        world.run_for(5 * SECOND + phase * 100 * MS);
        world.pause(1);
        world.run_for(200 * MS);
        world.crash(0);
        world.run_for(20 * SECOND);
        world.resume(1);
        world.run_for(4 * SECOND);
        let seen = world.joins_and_leaves(2, member);
        world.expect(seen == (1, 1), "it does not come back from the dead");
        found.extend(world.violations().to_vec());
    }
    found
}

/// A reader hears that a member moved before it hears where it is.
fn pointer_first(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.mild();
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(6 * SECOND);
    world.set_path(1, 2, Path::clean(600 * MS));
    world.resume_member(member, 1);
    world.run_for(3 * SECOND);
    let seen = world.joins_and_leaves(2, member);
    world.expect(seen == (1, 0), "a move is no leave");
    world.check_converged();
    world.violations().to_vec()
}

/// A member moves to a node that dies before a reader hears of it there.
fn dead_end(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(6 * SECOND);
    world.set_path(1, 2, Path::clean(600 * MS));
    world.resume_member(member, 1);
    world.run_for(300 * MS);
    world.cut_both(1, 2);
    world.crash(1);
    world.run_for(10 * SECOND);
    world.check_converged();
    world.violations().to_vec()
}

/// A member moved, but its client never learned so and comes with the token from before.
fn old_token(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(1, &room(0), true);
    world.run_for(SECOND);
    world.resume_member(member, 2);
    world.run_for(SECOND);
    world.resume_with_older(member, 0);
    world.run_for(4 * SECOND);
    world.check_converged();
    world.violations().to_vec()
}

/// A relayed delta of a node's last life arrives after the node itself in its next.
fn old_life(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(4 * SECOND);
    world.cut_both(0, 2);
    world.run_for(6 * SECOND);
    world.set_path(1, 2, Path::clean(1_500 * MS));
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.watch(0, &room(1));
    world.run_for(100 * MS);
    world.crash(0);
    world.heal_both(0, 2);
    world.run_for(50 * MS);
    world.start(0);
    world.run_for(4 * SECOND);
    let (joins, _) = world.joins_and_leaves(2, member);
    world.expect(joins == 0, "nobody joins out of a life that is over");
    let speaker = world.join(2, &room(1), true);
    world.publish(speaker, MessageKind::Event, 20);
    world.run_for(SECOND);
    let sent = world.counter(2, "messages_out_total");
    world.expect(
        sent == 0,
        "what an earlier life watched is nobody's interest",
    );
    world.violations().to_vec()
}

/// A delta arrives again after later ones.
fn delta_twice(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 5 * MS);
    world.run_for(3 * SECOND);
    world.watch(0, &room(0));
    world.run_for(SECOND);
    world.unwatch(0, &room(0));
    world.run_for(SECOND);
    let overview = world.core(0).map(|core| core.overview(Default::default()));
    let Some((boot, seq)) = overview.map(|overview| (overview.boot, overview.seq)) else {
        return Vec::new();
    };
    let delta = Frame::Delta(Delta {
        owner: OwnerId {
            node: world.name(0).clone(),
            boot,
        },
        from: seq - 2,
        to: seq - 1,
        ops: vec![Op::Watch(room(0))],
    });
    world.inject(0, 1, Lane::Presence, delta.encode(VERSION));
    world.run_for(10 * MS);
    let speaker = world.join(1, &room(0), true);
    world.publish(speaker, MessageKind::Event, 20);
    world.run_for(SECOND);
    let sent = world.counter(1, "messages_out_total");
    world.expect(sent == 0, "what is over does not begin again");
    world.violations().to_vec()
}

/// Of two nodes one watches a room, and has heard the first message of the other one's member.
fn one_message(rules: &Rules) -> (World, MemberId) {
    let mut world = world(2, rules, 5 * MS);
    world.watch(1, &room(0));
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(SECOND);
    world.publish(member, MessageKind::Event, 20);
    world.run_for(SECOND);
    (world, member)
}

/// A message arrives again.
fn message_twice(rules: &Rules) -> Vec<String> {
    let (mut world, member) = one_message(rules);
    let Some(boot) = world
        .core(0)
        .map(|core| core.overview(Default::default()).boot)
    else {
        return Vec::new();
    };
    // Messages are known by the count in their first eight bytes.
    let payload = [&1_u64.to_be_bytes()[..], &[0; 12]].concat();
    let again = Messages {
        origin: OwnerId {
            node: world.name(0).clone(),
            boot,
        },
        room: room(0),
        base: 0,
        to: 1,
        lost: 0,
        ticket: 0,
        known: u64::MAX,
        items: vec![(
            1,
            Message {
                sender: member,
                kind: MessageKind::Event,
                payload: payload.into(),
            },
        )],
    };
    world.inject(0, 1, Lane::Messages, Frame::Messages(again).encode(VERSION));
    world.run_for(SECOND);
    world.expect(world.messages_at(1) == 1, "the message arrives");
    world.violations().to_vec()
}

/// A datagram with a position arrives long before the join.
fn position_first(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 30 * MS);
    world.watch(1, &room(0));
    world.run_for(3 * SECOND);
    let clean = world.path(0, 1);
    world.set_path(0, 1, Path { loss: 1.0, ..clean });
    let member = world.join(0, &room(0), true);
    world.run_for(60 * MS);
    world.set_path(0, 1, clean);
    world.move_cursor(member);
    world.run_for(1_100 * MS);
    world.expect(
        world.cursor_at(1, member) == Some(1),
        "the position is known as soon as the member is",
    );
    world.violations().to_vec()
}

/// A node passes a relay frame on that did not come from its origin.
fn second_hand(rules: &Rules) -> Vec<String> {
    let mut world = world(4, rules, 5 * MS);
    world.run_for(4 * SECOND);
    let Some(boot) = world
        .core(0)
        .map(|core| core.overview(Default::default()).boot)
    else {
        return Vec::new();
    };
    let origin = OwnerId {
        node: world.name(0).clone(),
        boot,
    };
    let inner = Frame::Digest(Digest {
        entries: Vec::new(),
        reply: false,
    });
    let frame = Frame::Relay(Relay {
        origin,
        left: 1,
        to: vec![world.name(3).clone()],
        inner: inner.encode(VERSION),
    });
    world.inject(1, 2, Lane::Presence, frame.encode(VERSION));
    world.run_for(SECOND);
    world.violations().to_vec()
}

/// Two of three nodes cannot reach each other: messages and positions go through the third.
fn way_around(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    let member = world.join(0, &room(0), true);
    world.watch(2, &room(0));
    world.run_for(4 * SECOND);
    world.cut_both(0, 2);
    world.run_for(5 * SECOND);
    world.publish(member, MessageKind::Event, 20);
    world.move_cursor(member);
    world.run_for(300 * MS);
    world.expect(world.messages_at(2) == 1, "the message took the way around");
    world.expect(
        world.cursor_at(2, member) == Some(1),
        "the position took the way around",
    );
    world.violations().to_vec()
}

/// Nothing but loss: nobody is held for down and nobody joins SWIM a second time.
fn lossy(rules: &Rules) -> Vec<String> {
    let path = Path {
        loss: 0.1,
        ..Path::clean(75 * MS)
    };
    let mut world = World::new(&Setup {
        rules: rules.clone(),
        ..Setup::new(3, 1, path)
    });
    world.run_for(10 * SECOND);
    let before: Vec<_> = pairs(3).map(|(a, b)| world.verdicts(a, b)).collect();
    world.run_for(600 * SECOND);
    let after: Vec<_> = pairs(3).map(|(a, b)| world.verdicts(a, b)).collect();
    world.expect(before == after, "SWIM's verdicts do not change");
    world.violations().to_vec()
}

/// A member says something and leaves; its message is held up.
fn leave_first(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 30 * MS);
    world.mild();
    world.watch(1, &room(0));
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), false);
    world.run_for(SECOND);
    let clean = world.path(0, 1);
    world.set_path(0, 1, Path { loss: 1.0, ..clean });
    world.publish(member, MessageKind::Event, 20);
    world.set_path(0, 1, clean);
    world.leave_room(member);
    world.run_for(3 * SECOND);
    world.expect(world.messages_at(1) == 1, "the message arrives");
    world.expect(!world.shows(1, member), "and then the member leaves");
    world.violations().to_vec()
}

/// Interest in a room ends and begins anew while what was sent to the first is still on its way.
fn entered_again(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 200 * MS);
    world.watch(1, &room(0));
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), false);
    world.run_for(2 * SECOND);
    for round in 0..60 {
        world.publish(member, MessageKind::Event, 20_000);
        match round {
            10 => world.unwatch(1, &room(0)),
            12 => world.watch(1, &room(0)),
            _ => {}
        }
        world.run_for(20 * MS);
    }
    world.run_for(3 * SECOND);
    world.expect(world.lost_reported() == 0, "nothing counts as lost");
    world.check_messages();
    world.violations().to_vec()
}

/// A member moves and leaves while the node it came from is cut off with its old row.
fn older_row(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(SECOND);
    world.cut_both(0, 1);
    world.cut_both(0, 2);
    world.run_for(6 * SECOND);
    world.resume_member(member, 1);
    world.run_for(SECOND);
    world.leave_room(member);
    world.run_for(SECOND);
    world.heal_both(0, 1);
    world.heal_both(0, 2);
    world.run_for(6 * SECOND);
    world.check_converged();
    world.violations().to_vec()
}

/// A member moves, and a node dies for good; another is away for five minutes. While what they left
/// behind may still be needed it is kept, and after that by nobody.
fn purged(rules: &Rules) -> Vec<String> {
    let mut world = world(4, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let stays = world.join(0, &room(0), true);
    let dies = world.join(2, &room(0), true);
    let returns = world.join(3, &room(0), true);
    world.run_for(SECOND);
    world.resume_member(stays, 1);
    world.run_for(SECOND);
    world.crash(2);
    world.crash(3);
    let left = world.now();
    world.run_until(left + 300 * SECOND);
    world.start(3);
    world.resume_member(returns, 3);
    world.run_for(5 * SECOND);
    world.check_converged();
    let keeps = world.counter(0, "own_entries") == 1 && world.counter(1, "members_indexed") == 3;
    world.expect(keeps, "what may be needed yet is kept");
    world.run_until(left + 590 * SECOND);
    let kept = world.counter(1, "replicas");
    world.expect(kept >= 3, "a hidden node is kept for ten minutes");
    world.run_until(left + 700 * SECOND);
    for node in [0, 1, 3] {
        let (replicas, members) = (
            world.counter(node, "replicas"),
            world.counter(node, "members_indexed"),
        );
        world.expect(replicas == 2, "nobody keeps a node that is gone for good");
        world.expect(members == 2, "nobody keeps a member of it");
        world.expect(!world.shows(node, dies), "nobody shows a member of it");
    }
    let entries = [0, 1, 3].map(|node| world.counter(node, "own_entries"));
    world.expect(entries == [0, 1, 1], "nobody keeps a tombstone");
    world.check_converged();
    world.violations().to_vec()
}

/// A node leaves on purpose; its member is resumed elsewhere while its row lingers.
fn lingered(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(SECOND);
    world.leave(0, std::time::Duration::from_secs(5));
    world.run_for(2 * SECOND);
    world.resume_member(member, 1);
    world.run_for(6 * SECOND);
    let seen = world.joins_and_leaves(2, member);
    world.expect(seen == (1, 0), "nobody sees the member leave or join");
    world.check_converged();
    world.violations().to_vec()
}

/// A node that never had a link to another learns its long table from a third.
fn second_hand_table(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.crash(2);
    world.cut_both(0, 2);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    for _ in 0..8_400 {
        world.update(member);
    }
    world.run_for(3 * SECOND);
    world.start(2);
    world.run_for(6 * SECOND);
    world.expect(world.shows(2, member), "the third node's copy serves");
    world.violations().to_vec()
}

/// The connection that brings a snapshot dies, and nobody is told.
fn broken_snapshot(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 100 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    for _ in 0..8_400 {
        world.update(member);
    }
    for _ in 0..150 {
        world.run_for(10 * MS);
        world.break_bulk(0, 1);
    }
    world.run_for(9 * SECOND);
    world.expect(world.shows(1, member), "the snapshot is asked for again");
    world.check_converged();
    world.violations().to_vec()
}

/// A node stands still for longer than evidence lasts: that is no reason to hide whom it knows
/// through others.
fn stood_still(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.cut_both(0, 2);
    world.run_for(8 * SECOND);
    world.expect(world.shows(2, member), "it is known through the third node");
    world.pause(2);
    world.cut_both(1, 2);
    world.run_for(6 * SECOND);
    world.heal_both(1, 2);
    world.resume(2);
    world.run_for(3 * SECOND);
    let (_, leaves) = world.joins_and_leaves(2, member);
    world.expect(leaves == 0, "nobody is hidden for it");
    world.violations().to_vec()
}

/// A node starts again with its clock set back. Who knows its life in between can only be reached
/// through a relay, which does not.
fn set_back(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(4 * SECOND);
    world.crash(0);
    world.cut_both(0, 2);
    world.cut_both(1, 2);
    world.run_for(8 * SECOND);
    world.step_clock(0, 3_600_000);
    world.start(0);
    world.run_for(3 * SECOND);
    world.crash(0);
    world.cut_both(0, 1);
    world.run_for(8 * SECOND);
    world.heal_both(0, 2);
    world.heal_both(1, 2);
    world.step_clock(0, -7_200_000);
    world.start(0);
    world.run_for(2 * SECOND);
    let member = world.join(0, &room(0), true);
    world.run_for(12 * SECOND);
    world.expect(world.shows(2, member), "the relay shows its member");
    world.expect(world.shows(1, member), "and so does who knows a later life");
    world.violations().to_vec()
}

/// More large messages than a link takes: what waits for it stays bounded.
fn too_slow(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 5 * MS);
    world.watch(1, &room(0));
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), false);
    world.run_for(SECOND);
    let narrow = Path {
        bandwidth: 20_000,
        ..world.path(0, 1)
    };
    world.disturb();
    world.set_path(0, 1, narrow);
    let mut most = 0;
    for _ in 0..100 {
        world.publish(member, MessageKind::Tutorial, 20_000);
        world.run_for(10 * MS);
        most = most.max(world.counter(0, "message_bytes_queued"));
    }
    world.expect(most <= 320 * 1024, "what waits for a slow link is bounded");
    world.violations().to_vec()
}

/// A relay has more to forward than its link takes: it drops the last, and no other follows that
/// would show the gap.
fn dropped_tail(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    let member = world.join(0, &room(0), true);
    world.watch(2, &room(0));
    world.run_for(4 * SECOND);
    world.cut_both(0, 2);
    world.run_for(5 * SECOND);
    let clean = world.path(1, 2);
    let narrow = Path {
        bandwidth: 100_000,
        ..clean
    };
    world.disturb();
    world.set_path(1, 2, narrow);
    for _ in 0..20 {
        world.publish(member, MessageKind::Event, 20_000);
        world.run_for(10 * MS);
    }
    world.publish(member, MessageKind::Event, 20);
    world.run_for(500 * MS);
    world.set_path(1, 2, clean);
    world.run_for(12 * SECOND);
    world.check_messages();
    world.violations().to_vec()
}

/// A link breaks with the last message of a room on it, and is back when nobody keeps that message
/// any more: it is at least told of.
fn torn_tail(rules: &Rules) -> Vec<String> {
    let (mut world, member) = one_message(rules);
    world.cut_both(0, 1);
    world.publish(member, MessageKind::Event, 20);
    world.run_for(SECOND);
    world.leave_room(member);
    world.run_for(45 * SECOND);
    world.heal_both(0, 1);
    world.run_for(12 * SECOND);
    world.expect(world.messages_at(1) == 1, "the message is gone");
    world.expect(world.lost_reported() > 0, "and that is told");
    world.check_messages();
    world.violations().to_vec()
}

/// A cursor rests; whoever enters the room later sees where.
fn quiet_room(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.run_for(3 * SECOND);
    let member = world.join(0, &room(0), true);
    world.move_cursor(member);
    world.run_for(SECOND);
    // The first to watch gets what the hub kept until then, the second what the core has.
    for node in [1, 2] {
        world.watch(node, &room(0));
        world.run_for(10 * SECOND);
        let at = world.cursor_at(node, member);
        world.expect(at == Some(1), "the cursor is where it rests");
    }
    world.violations().to_vec()
}

/// A client comes back on a node that has no link to a speaker; a third node answers for the speaker,
/// and has not heard its last word either.
fn pinned(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, 5 * MS);
    world.replay_missed();
    world.run_for(3 * SECOND);
    let speaker = world.join(0, &room(0), true);
    let stays = world.join(2, &room(0), true);
    let moves = world.join(2, &room(0), true);
    world.run_for(2 * SECOND);
    world.publish(speaker, MessageKind::Event, 20);
    world.run_for(SECOND);
    world.cut_both(0, 1);
    world.run_for(6 * SECOND);
    world.cut(0, 2);
    world.publish(speaker, MessageKind::Event, 20);
    world.run_for(100 * MS);
    world.break_off(moves);
    world.resume_member(moves, 1);
    world.run_for(500 * MS);
    world.heal(0, 2);
    world.heal_both(0, 1);
    world.run_for(10 * SECOND);
    world.expect(world.shows(1, stays), "the third node is there");
    world.check_missed();
    world.violations().to_vec()
}

/// Nodes of one region get one copy of what is said elsewhere, and all of it.
fn one_copy(rules: &Rules) -> Vec<String> {
    let (mut world, members) = two_per_region(rules);
    let before = world.counter(0, "messages_out_total");
    for _ in 0..50 {
        world.publish(members[0], MessageKind::Event, 20);
        world.run_for(50 * MS);
    }
    world.run_for(2 * SECOND);
    // One each for two other regions, and one for the neighbour.
    let copies = world.counter(0, "messages_out_total") - before;
    world.expect(copies <= 50 * 3, "one copy for a region");
    for node in 1..6 {
        world.expect(world.messages_at(node) == 50, "and everybody has all");
    }
    world.check_messages();
    world.violations().to_vec()
}

/// Nodes that hear by way of a gateway miss nothing when it dies, and do not wait until its link is
/// given up.
fn gateway_dies(rules: &Rules) -> Vec<String> {
    let (mut world, members) = two_per_region(rules);
    world.publish(members[0], MessageKind::Event, 20);
    world.run_for(SECOND);
    let gateway = |node: usize| world.counter(node, "relayed_total") > 0;
    let (gone, stays) = if gateway(1) { (1, 4) } else { (4, 1) };
    world.expect(gateway(gone), "one of the two is the gateway");
    world.crash(gone);
    for _ in 0..10 {
        world.publish(members[0], MessageKind::Event, 20_000);
        world.run_for(50 * MS);
    }
    world.run_for(1_300 * MS);
    world.expect(world.messages_at(stays) == 11, "its neighbour has all");
    world.run_for(10 * SECOND);
    world.check_messages();
    world.violations().to_vec()
}

/// Six nodes in three regions, with somebody in the room on each.
fn two_per_region(rules: &Rules) -> (World, Vec<MemberId>) {
    let mut world = world(6, rules, 40 * MS);
    world.run_for(3 * SECOND);
    let members = (0..6)
        .map(|node| world.join(node, &room(0), true))
        .collect();
    // Links are told of every two seconds.
    world.run_for(3 * SECOND);
    (world, members)
}

/// Somebody comes and speaks at once: presence is gathered before it is sent, and messages are not.
fn first_words(rules: &Rules) -> Vec<String> {
    let mut world = world(2, rules, 5 * MS);
    world.mild();
    world.run_for(3 * SECOND);
    world.join(1, &room(0), true);
    world.run_for(SECOND);
    for _ in 0..5 {
        let member = world.join(0, &room(0), true);
        world.publish(member, MessageKind::Event, 20);
        world.run_for(230 * MS);
    }
    world.run_for(SECOND);
    world.expect(world.messages_at(1) == 5, "all is heard");
    world.check_messages();
    world.violations().to_vec()
}

/// All nodes start again, one after the other, and whoever was there goes to the next one each time. In
/// the end nobody in sight was there when the first life of the first one ended.
fn in_turn(rules: &Rules) -> Vec<String> {
    let mut world = world(4, rules, 20 * MS);
    world.replay_missed();
    world.run_for(3 * SECOND);
    let people: Vec<MemberId> = (0..4)
        .map(|node| world.join(node, &room(0), true))
        .collect();
    world.run_for(SECOND);
    for node in 0..4 {
        for member in &people {
            world.publish(*member, MessageKind::Event, 20);
        }
        world.run_for(500 * MS);
        let here = |member: &&MemberId| {
            let at = world.attachment(**member);
            at.is_some_and(|(at, _)| at == node)
        };
        let movers: Vec<MemberId> = people.iter().filter(here).copied().collect();
        for member in &movers {
            world.lose_sight(*member);
        }
        world.leave(node, std::time::Duration::from_secs(10));
        world.run_for(900 * MS);
        for member in movers {
            world.resume_member(member, node ^ 1);
        }
        world.run_for(SECOND);
        world.start(node);
        world.run_for(2 * SECOND);
    }
    let reached = |world: &World, what| world.reached().get(what).copied().unwrap_or(0);
    let whole = reached(&world, "complete replays");
    world.expect(whole >= 6, "who comes back is told what it missed");
    let lacking = reached(&world, "incomplete replays");
    world.expect(
        lacking == 0,
        "and nobody is told that something may be missing",
    );
    world.check_missed();
    world.violations().to_vec()
}

/// A client comes back where nobody knows what it missed: its node is gone, and who was in the room as
/// well stands still. That is said as soon as nodes so near would have answered.
fn near_silence(rules: &Rules) -> Vec<String> {
    let mut world = world(3, rules, MS);
    world.replay_missed();
    world.run_for(3 * SECOND);
    let moves = world.join(0, &room(0), true);
    world.join(2, &room(0), true);
    world.run_for(10 * SECOND);
    world.publish(moves, MessageKind::Event, 20);
    world.run_for(SECOND);
    world.crash(0);
    world.pause(2);
    world.resume_member(moves, 1);
    world.run_for(1_300 * MS);
    let lacking = world.reached().get("incomplete replays").copied();
    world.expect(
        lacking == Some(1),
        "it is told after little more than a second",
    );
    world.violations().to_vec()
}

/// Two nodes are 800 ms apart, and nothing passes between them until their link breaks. It is dialled
/// again at once, which takes more than two round trips.
fn far_redial(rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    for phase in 0..4 {
        let mut world = world(2, rules, 400 * MS);
        world.run_for(10 * SECOND + phase * 130 * MS);
        let member = world.join(0, &room(0), true);
        world.run_for(3 * SECOND);
        world.cut_both(0, 1);
        world.run_for(2_600 * MS);
        world.heal_both(0, 1);
        world.run_for(5 * SECOND);
        let (_, leaves) = world.joins_and_leaves(1, member);
        world.expect(leaves == 0, "nobody is seen to leave");
        found.extend(world.violations().to_vec());
    }
    found
}

fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |a| (0..nodes).filter(move |b| a != *b).map(move |b| (a, b)))
}
