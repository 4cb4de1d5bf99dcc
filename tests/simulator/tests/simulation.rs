//! Seeded runs of many cores, all judged. `scripts/sim` runs more of them.
#![allow(missing_docs, clippy::unwrap_used)]

use cursormesh_simulator::{Options, run_seed};

/// Runs a range of seeds on all processors; fails with every seed that found something.
fn run(seeds: std::ops::Range<u64>, named: bool, mixed: bool) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let seeds = seeds.clone();
                scope.spawn(move || {
                    seeds
                        .filter(|seed| seed % workers == worker)
                        .filter_map(|seed| {
                            let options = Options {
                                seed,
                                named,
                                mixed,
                                ..Options::default()
                            };
                            let report = run_seed(&options);
                            let found = report.violations.first()?;
                            let named = if named { " --named" } else { "" };
                            let mixed = if mixed { " --mixed" } else { "" };
                            Some(format!(
                                "scripts/sim --first-seed {seed} --seeds 1{named}{mixed}: {found}"
                            ))
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn three_hundred_seeds_find_nothing() {
    run(0..300, false, false);
}

#[test]
fn thirty_seeds_of_nodes_that_find_each_other_by_name_find_nothing() {
    run(0..30, true, false);
}

#[test]
fn sixty_seeds_of_two_versions_side_by_side_find_nothing() {
    run(0..60, false, true);
}

#[test]
fn a_hundred_seeds_of_nodes_far_apart_find_nothing() {
    let failed: Vec<(u64, Vec<String>)> = (0..100)
        .filter_map(|seed| {
            let options = Options {
                seed,
                far: true,
                ..Options::default()
            };
            let found = run_seed(&options).violations;
            (!found.is_empty()).then_some((seed, found))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_seed_is_a_run_byte_for_byte() {
    for seed in [1, 7, 42] {
        let options = Options {
            seed,
            ..Options::default()
        };
        let (one, two) = (run_seed(&options), run_seed(&options));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
        let other = Options {
            seed: seed + 1,
            ..options
        };
        assert_ne!(one.trace_hash, run_seed(&other).trace_hash, "seed {seed}");
    }
}

#[test]
fn directed_scenarios_find_nothing() {
    for (name, scenario) in cursormesh_simulator::scenarios::SCENARIOS {
        let found = scenario(&cursormesh_mesh::proto::Rules::default());
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

#[test]
fn a_thousand_restarts_leave_nothing_behind() {
    let (before, after) = cursormesh_simulator::scale::restart(1_000);
    assert_eq!(after.replicas, before.replicas);
    assert_eq!(after.peers, before.peers);
    assert!(after.entries <= before.entries + 1, "{before:?} {after:?}");
    assert!(
        after.bytes <= before.bytes * 11 / 10,
        "{before:?} {after:?}"
    );
}
