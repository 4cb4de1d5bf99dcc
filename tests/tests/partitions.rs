//! Three real nodes through every partition. Each scenario has its bounds with it; `scripts/partitions`
//! runs them by hand and prints the table.

#![allow(clippy::print_stdout)]

use cursormesh_tests::cluster::scenario;
use tokio::sync::Mutex;

/// How often a scenario is carried out while all that it misses is an age in milliseconds: what is
/// wrong with a node misses every time, what else the machine did does not.
const ATTEMPTS: usize = 3;

/// Scenarios measure time, so none runs beside another where one process runs them all.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn run(name: &str) {
    let Some(scenario) = scenario::named(name) else {
        panic!("there is no scenario {name}");
    };
    let _alone = ONE_AT_A_TIME.lock().await;
    for attempt in 1..=ATTEMPTS {
        match scenario.run().await {
            Ok(report) => {
                println!("{name}: {report}");
                if attempt < ATTEMPTS && report.missed_ages_only() {
                    continue;
                }
                assert!(report.is_good(), "{}: {report}", scenario.what);
                return;
            }
            Err(error) => panic!("{} could not be carried out: {error}", scenario.what),
        }
    }
}

/// A test for each scenario, under its name.
macro_rules! scenarios {
    ($($(#[$attribute:meta])* $test:ident = $name:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn $test() {
                run($name).await;
            }
        )*

        #[test]
        fn every_scenario_of_the_table_is_a_test() {
            let tested = [$($name),*];
            for scenario in scenario::SCENARIOS {
                assert!(tested.contains(&scenario.name), "{}", scenario.name);
            }
        }
    };
}

scenarios! {
    a_killed_node_is_gone_everywhere = "kill";
    a_node_restarts_at_once = "restart";
    a_frozen_node_comes_back = "freeze";
    #[ignore = "takes 45 s"]
    a_node_frozen_for_long_comes_back = "freeze-long";
    nodes_are_replaced_one_by_one = "rolling";
    a_full_split_heals = "split";
    a_partial_cut_is_routed_around = "partial";
    a_link_that_loses_one_way_is_routed_around = "one-way";
    a_flapping_link_is_routed_around = "flapping";
    a_slow_link_keeps_cursors_young = "slow-link";
    a_large_snapshot_leaves_cursors_alone = "snapshot";
    without_file_descriptors_those_connected_go_on = "descriptors";
    a_full_disk_stops_nobody = "disk-full";
    a_full_split_heals_in_namespaces = "netns-split";
    a_partial_cut_is_routed_around_in_namespaces = "netns-partial";
    a_link_that_loses_one_way_is_routed_around_in_namespaces = "netns-one-way";
    a_slow_link_keeps_messages_young_in_namespaces = "netns-slow-link";
}
