//! Seeds that once failed, each with what it was. They stay, so that it does not come back.
#![allow(missing_docs)]

use cursormesh_simulator::{Options, run_seed};

/// With the faults that the first runs had.
fn finds_nothing(seed: u64) {
    run(seed, true);
}

/// With replays, snapshots of many parts and full queues as well.
fn finds_nothing_harder(seed: u64) {
    run(seed, false);
}

fn run(seed: u64, plain: bool) {
    let options = Options {
        seed,
        plain,
        ..Options::default()
    };
    let report = run_seed(&options);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

/// A member that came back within the grace period by an update was timed out all the same.
#[test]
fn seed_12_coming_back_ends_the_grace_period() {
    finds_nothing(12);
}

/// A pointer to a node whose row had arrived and gone again kept the member shown four seconds
/// longer; so did one that was older than what was shown, and one of two at the same epoch.
#[test]
fn seeds_15_121_and_840_a_pointer_keeps_nobody_who_had_arrived() {
    [15, 121, 840].into_iter().for_each(finds_nothing);
}

/// Messages published while a known listener had no link and no relay were never sent.
#[test]
fn seed_19_what_had_no_way_is_sent_later() {
    finds_nothing(19);
}

/// A position that was held for an unknown member was dropped although it was being repeated.
#[test]
fn seed_41_a_repeated_position_is_held_anew() {
    finds_nothing(41);
}

/// Messages lost in a dying link could not be pulled through a relay.
#[test]
fn seed_82_a_gap_is_filled_through_a_relay() {
    finds_nothing(82);
}

/// An unanswered pull from a third node blocked the owner's answer for five seconds after a heal.
#[test]
fn seed_93_a_link_to_the_owner_ends_a_detour() {
    finds_nothing(93);
}

/// A node vouched for messages from a time in which nobody there was in the room, after a loss, or
/// beyond the last it had heard.
#[test]
fn seeds_77_245_and_286_a_ring_vouches_for_what_it_heard() {
    [77, 245, 286].into_iter().for_each(finds_nothing);
}

/// A member left on a node that left too, and came back out of a life of its first node that was
/// over.
#[test]
fn seed_12820_nobody_joins_out_of_a_life_that_is_over() {
    finds_nothing(12_820);
}

/// A member on its way was dropped, as having left, when the node it came from left the cluster.
#[test]
fn seed_1861_a_member_on_its_way_outlives_its_old_node() {
    finds_nothing(1861);
}

/// A node's Bye overtook the last messages of its members, which came after they had left.
#[test]
fn seeds_3620_5375_and_6299_a_bye_follows_the_last_messages() {
    [3620, 5375, 6299].into_iter().for_each(finds_nothing);
}

/// A member that came back on a later life of its node was heard before it was seen, and judged to
/// speak after having left.
#[test]
fn seeds_2828_and_5048_who_comes_back_may_be_heard_before_it_is_seen() {
    [2828, 5048].into_iter().for_each(finds_nothing);
}

/// A member that was resumed on two nodes at once was told to have left when one yielded to the
/// other.
#[test]
fn seeds_4001_and_7919_a_pointer_of_the_shown_owner_leads_on() {
    [4001, 7919].into_iter().for_each(finds_nothing);
}

/// A leave went on waiting for messages of a room that nobody here was in any more.
#[test]
fn seed_4679_a_leave_waits_for_no_messages_that_nobody_awaits() {
    finds_nothing(4679);
}

/// A leave that waited for its last messages was forgotten with the node that had sent it.
#[test]
fn seed_7613_a_waiting_leave_outlives_its_owner() {
    finds_nothing(7613);
}

/// A node whose clock had been set back, reached through a relay only, was ignored and never told.
#[test]
fn seed_8971_a_relayed_node_is_told_of_its_newer_life() {
    finds_nothing(8971);
}

/// A leave that waited was taken out by what another owner said of the member, and never told.
#[test]
fn seeds_4175_and_6209_a_waiting_leave_is_its_owners_to_replace() {
    [4175, 6209].into_iter().for_each(finds_nothing);
}

/// A node whose link closed before its last operations were through was taken to have said all.
#[test]
fn seed_4145_who_leaves_has_left_with_its_bye_only() {
    finds_nothing(4145);
}

/// A room was left and entered again within a round trip: what was sent to the interest before began
/// the new one, and the rest counted as lost, or came twice.
#[test]
fn seeds_471_512_616_801_1001_and_1295_an_interest_begins_anew() {
    [471, 512, 616, 801, 1001, 1295]
        .into_iter()
        .for_each(finds_nothing_harder);
}

/// A client was told that nothing is missing, on the word of a third node, by a node that did not
/// know the origin yet: what it said next was taken for its first.
#[test]
fn seeds_656_and_662_an_answer_is_relied_on_by_who_hears_the_rest() {
    [656, 662].into_iter().for_each(finds_nothing_harder);
}

/// What a link lost when it broke was no longer in a ring when the next came up, and nobody was told.
#[test]
fn seed_1241_what_a_broken_link_lost_is_told_of_later() {
    finds_nothing_harder(1241);
}

/// A ring kept what was heard for an interest that had ended, and its answers were out of order: a
/// healthy link was closed for it.
#[test]
fn seed_1017_a_ring_answers_in_order() {
    finds_nothing_harder(1017);
}

/// On a slow link the newest message for the peer gave way to the same message for a node behind it.
#[test]
fn seeds_2156_2225_and_4249_what_is_relayed_evicts_nothing() {
    [2156, 2225, 4249]
        .into_iter()
        .for_each(finds_nothing_harder);
}

/// A node that knew less vouched for one that had died.
#[test]
fn seeds_846_1635_2862_and_5901_nobody_vouches_for_the_dead() {
    [846, 1635, 2862, 5901]
        .into_iter()
        .for_each(finds_nothing_harder);
}

/// Two lives of a node whose clock had been set back took the same boot.
#[test]
fn seed_15283_two_lives_have_two_boots() {
    finds_nothing_harder(15_283);
}

/// Messages that went by way of a gateway which died, which another node's messages pushed out, or which
/// a slow link overtook, were given up as lost.
#[test]
fn seeds_376_414_1032_1217_8500_and_9274_a_gateway_takes_nothing_with_it() {
    [376, 414, 1032, 1217, 8500, 9274]
        .into_iter()
        .for_each(finds_nothing_harder);
}

/// A Bye came before the last operations, which a gateway still passed on or which had not been asked
/// for, and its members counted as closed.
#[test]
fn seeds_771_5341_and_7287_who_misses_the_last_words_does_not_guess_them() {
    [771, 5341, 7287].into_iter().for_each(finds_nothing_harder);
}

/// A member was heard before it had joined where its rows were known of an earlier node, and where much
/// was said at once.
#[test]
fn seeds_3064_and_4955_a_row_out_of_sight_is_no_join() {
    [3064, 4955].into_iter().for_each(finds_nothing_harder);
}

/// Rows that linger were expected to go with a later life of their node that crashed.
#[test]
fn seed_2973_who_left_in_good_order_lingers() {
    finds_nothing_harder(2973);
}

/// A node that had been refused events on a slow link vouched for them to a third.
#[test]
fn seed_40_who_was_refused_events_vouches_for_none() {
    finds_nothing_harder(40);
    let report = run_seed(&Options {
        seed: 40,
        mixed: true,
        ..Options::default()
    });
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

/// Far apart: a digest that was under way before the join let messages go before it; messages that
/// waited came after a Bye; answers were waited for as long as the way varied, or through a relay; who
/// began to listen after a leave was held to have been told of it.
#[test]
fn seeds_31_190_382_455_460_556_750_and_957_far_apart() {
    for seed in [31, 190, 382, 455, 460, 556, 750, 957] {
        let report = run_seed(&Options {
            seed,
            far: true,
            ..Options::default()
        });
        assert!(
            report.violations.is_empty(),
            "{seed}: {:#?}",
            report.violations
        );
    }
}
