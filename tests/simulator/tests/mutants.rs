#![allow(missing_docs, clippy::unwrap_used)]
use cursormesh_mesh::proto::{Rule, Rules};
use cursormesh_simulator::{Options, run_seed};

const RULES: &[Rule] = &[
    Rule::GapIsPulled,
    Rule::SnapshotSwaps,
    Rule::DuplicateIsIgnored,
    Rule::StaleBootIsDropped,
    Rule::NewBootSupersedes,
    Rule::FirstSightingIsNoEvidence,
    Rule::EvidenceCarriesAge,
    Rule::SilentOwnerIsHidden,
    Rule::DigestRepairs,
    Rule::EvidenceThroughOthers,
    Rule::HighestEpochWins,
    Rule::LoserYields,
    Rule::MovedKeepsShowing,
    Rule::MovedTimesOut,
    Rule::GoneStays,
    Rule::EpochRises,
    Rule::BootIsRaised,
    Rule::MessageDuplicateIsIgnored,
    Rule::MessageGapIsPulled,
    Rule::HeadsOnLinkUp,
    Rule::CursorOrder,
    Rule::CursorHeld,
    Rule::CursorResent,
    Rule::RelayOnce,
    Rule::RelayUsed,
    Rule::SwimGuard,
    Rule::GraceEnds,
    Rule::LeaveFollowsMessages,
];

#[test]
#[ignore = "looks for seeds"]
fn find() {
    for rule in RULES {
        let mut caught = Vec::new();
        let mut what = String::new();
        for seed in 0..300 {
            let options = Options {
                seed,
                rules: Rules::without(*rule),
                ..Options::default()
            };
            let result = std::panic::catch_unwind(|| run_seed(&options));
            match result {
                Ok(report) => {
                    if let Some(first) = report.violations.first() {
                        if caught.is_empty() {
                            what = first.clone();
                        }
                        caught.push(seed);
                    }
                }
                Err(_) => {
                    what = "panicked".into();
                    caught.push(seed)
                }
            }
            if caught.len() >= 5 {
                break;
            }
        }
        println!("{rule:?}: {caught:?} {what}");
    }
}
