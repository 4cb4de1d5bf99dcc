//! Judges the judge: without any one rule of the protocol, a named seed or scenario must fail.
//!
//! `cargo test -p cursormesh-simulator --features mutants --test mutants -- --nocapture` prints what
//! catches which rule.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::sync::atomic::Ordering::Relaxed;

use cursormesh_mesh::proto::{Rule, Rules};
use cursormesh_simulator::scenarios::SCENARIOS;
use cursormesh_simulator::{Options, run_seed};

/// What notices that a rule is gone.
#[derive(Debug, Clone, Copy)]
enum Catch {
    Seed(u64),
    Scenario(&'static str),
}

use Catch::{Scenario, Seed};

const CAUGHT_BY: &[(Rule, Catch)] = &[
    (Rule::GapIsPulled, Seed(2)),
    (Rule::SnapshotSwaps, Seed(0)),
    (Rule::DuplicateIsIgnored, Scenario("a delta comes twice")),
    (
        Rule::StaleBootIsDropped,
        Scenario("a delta of a life that is over"),
    ),
    (Rule::NewBootSupersedes, Seed(4)),
    (
        Rule::FirstSightingIsNoEvidence,
        Scenario("a late word of a dead node to a newcomer"),
    ),
    (
        Rule::EvidenceCarriesAge,
        Scenario("evidence at second hand"),
    ),
    (Rule::SilentOwnerIsHidden, Seed(0)),
    (
        Rule::DigestRepairs,
        Scenario("more operations at once than a log keeps"),
    ),
    (Rule::EvidenceThroughOthers, Seed(160)),
    (Rule::HighestEpochWins, Seed(0)),
    (Rule::LoserYields, Seed(0)),
    (
        Rule::MovedKeepsShowing,
        Scenario("the pointer outruns the row"),
    ),
    (Rule::MovedTimesOut, Seed(163)),
    (Rule::GoneStays, Scenario("an older row behind a partition")),
    (
        Rule::EpochRises,
        Scenario("a token from before the last move"),
    ),
    (Rule::BootIsRaised, Seed(10)),
    (
        Rule::MessageDuplicateIsIgnored,
        Scenario("a message comes twice"),
    ),
    (Rule::MessageGapIsPulled, Seed(3)),
    (
        Rule::LeaveFollowsMessages,
        Scenario("a leave outruns the last message"),
    ),
    (
        Rule::EarlierInterestIsOver,
        Scenario("a room left and entered again"),
    ),
    (Rule::HeadsOnLinkUp, Seed(0)),
    (Rule::CursorOrder, Seed(0)),
    (Rule::CursorHeld, Scenario("a position outruns its member")),
    (Rule::CursorResent, Seed(77)),
    (Rule::RelayOnce, Scenario("a relay frame at second hand")),
    (Rule::RelayUsed, Scenario("a cut with a way around")),
    (Rule::OneCopyPerRegion, Scenario("a region with two nodes")),
    (
        Rule::MessagesFollowJoin,
        Scenario("the first words outrun the join"),
    ),
    (Rule::SwimGuard, Scenario("ten minutes of loss")),
    (Rule::GraceEnds, Seed(0)),
    (Rule::OldIsPurged, Scenario("what is over is purged")),
    (Rule::BrokenIsAway, Seed(0)),
    (
        Rule::ByeLingers,
        Scenario("a node leaves and its members move on"),
    ),
    (Rule::AnyNodeServes, Scenario("a table at second hand")),
    (Rule::PullIsRenewed, Scenario("a snapshot breaks off")),
    (Rule::HiddenRowsAreKept, Seed(6)),
    (Rule::StallIsForgiven, Scenario("a node stands still")),
    (
        Rule::NewerLifeIsTold,
        Scenario("a clock set back behind a relay"),
    ),
    (
        Rule::SlowLinkGivesWay,
        Scenario("more than a slow link takes"),
    ),
    (Rule::RingIsKept, Seed(0)),
    (
        Rule::AnswerIsPinned,
        Scenario("a third node's answer, and the rest"),
    ),
    (
        Rule::TailsThroughRelay,
        Scenario("a relay drops the last message"),
    ),
    (
        Rule::BrokenLinkIsDoubted,
        Scenario("a link breaks with the last message on it"),
    ),
    (
        Rule::CurrentCursorsAreSent,
        Scenario("who enters a quiet room"),
    ),
    (
        Rule::LaterLifeIsSeen,
        Scenario("every node starts again in turn"),
    ),
    (
        Rule::PatienceFollowsRoundTrip,
        Scenario("a near node does not answer"),
    ),
    (
        Rule::EvidenceFollowsRoundTrip,
        Scenario("a far link breaks and is dialled again"),
    ),
];

fn found(rules: &Rules, catch: Catch) -> Vec<String> {
    match catch {
        Seed(seed) => {
            let options = Options {
                seed,
                rules: rules.clone(),
                ..Options::default()
            };
            run_seed(&options).violations
        }
        Scenario(name) => {
            let (_, run) = SCENARIOS.iter().find(|(other, _)| *other == name).unwrap();
            run(rules)
        }
    }
}

#[test]
fn the_loss_of_any_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    for (rule, catch) in CAUGHT_BY {
        let violations = found(&Rules::without(*rule), *catch);
        match violations.first() {
            Some(first) => println!("{rule:?}: {catch:?}: {first}"),
            None => unnoticed.push(format!("{rule:?} by {catch:?}")),
        }
        let clean = found(&Rules::default(), *catch);
        if !clean.is_empty() {
            unnoticed.push(format!("{catch:?} fails with every rule: {clean:?}"));
        }
    }
    assert!(unnoticed.is_empty(), "unnoticed: {unnoticed:#?}");
}

/// Prints seeds that catch each rule: for when a seed of the table no longer does, because the
/// simulator draws differently.
#[test]
#[ignore = "a search of minutes, not a test"]
fn look_for_seeds() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let look = || {
        while let Some((rule, _)) = CAUGHT_BY.get(next.fetch_add(1, Relaxed)) {
            let caught: Vec<u64> = (0..300)
                .filter(|seed| !found(&Rules::without(*rule), Seed(*seed)).is_empty())
                .take(3)
                .collect();
            println!("{rule:?}: {caught:?}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(look);
        look();
    });
}
