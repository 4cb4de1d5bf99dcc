//! Where the regions are: five cities, and the round trips between them.
//!
//! The round trips are typical ones between data centres of large providers in these cities, rounded
//! to 5 ms: providers publish such tables, as do independent monitors, and anyone with two machines
//! can `ping`. They differ by some per cent between providers and over the years. Light in a straight
//! fibre would take about two thirds of each.

use std::time::Duration;

/// A region of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its name in the nodes' configuration.
    pub name: &'static str,
    /// The city of its data centres.
    pub city: &'static str,
}

/// The five regions.
pub const REGIONS: [Region; 5] = [
    Region {
        name: "us-east",
        city: "Virginia",
    },
    Region {
        name: "us-west",
        city: "Oregon",
    },
    Region {
        name: "eu-central",
        city: "Frankfurt",
    },
    Region {
        name: "ap-southeast",
        city: "Singapore",
    },
    Region {
        name: "sa-east",
        city: "São Paulo",
    },
];

/// Round trips in milliseconds, each pair once, in the order of [`REGIONS`].
const ROUND_TRIPS_MS: [(usize, usize, u64); 10] = [
    (0, 1, 65),
    (0, 2, 90),
    (0, 3, 215),
    (0, 4, 115),
    (1, 2, 145),
    (1, 3, 165),
    (1, 4, 175),
    (2, 3, 160),
    (2, 4, 205),
    (3, 4, 325),
];

/// The round trip between two nodes of one region: neighbouring data centres.
const ROUND_TRIP_WITHIN: Duration = Duration::from_millis(1);

/// What a packet between regions may take beyond the distance, evenly distributed. Long-haul links
/// of providers vary by less most of the time.
pub const JITTER_MAX: Duration = Duration::from_millis(4);

/// The share of packets that are lost between regions. Providers' own links lose far less; the public
/// internet across an ocean on a bad day does lose this.
pub const LOSS: f64 = 0.01;

/// The round trip between two regions by name, or within one; `None` for a name that is not there.
pub fn round_trip(one: &str, other: &str) -> Option<Duration> {
    let index = |name| REGIONS.iter().position(|region| region.name == name);
    let (one, other) = (index(one)?, index(other)?);
    if one == other {
        return Some(ROUND_TRIP_WITHIN);
    }
    let pair = (one.min(other), one.max(other));
    ROUND_TRIPS_MS
        .iter()
        .find(|(first, second, _)| (*first, *second) == pair)
        .map(|(_, _, ms)| Duration::from_millis(*ms))
}

/// The way there alone: half a round trip. Nothing can be younger than that.
pub fn one_way(one: &str, other: &str) -> Duration {
    round_trip(one, other).unwrap_or_default() / 2
}

/// The city of a region.
pub fn city(name: &str) -> &'static str {
    let found = REGIONS.iter().find(|region| region.name == name);
    found.map_or("nowhere", |region| region.city)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_one_round_trip_the_same_both_ways() {
        for one in REGIONS {
            for other in REGIONS {
                let there = round_trip(one.name, other.name);
                assert!(there.is_some(), "{} {}", one.name, other.name);
                assert_eq!(there, round_trip(other.name, one.name));
            }
        }
        assert_eq!(round_trip("us-east", "atlantis"), None);
        assert_eq!(one_way("us-east", "eu-central"), Duration::from_millis(45));
    }

    #[test]
    fn no_detour_is_much_shorter_than_the_direct_way() {
        // Real routes detour a little, but a matrix with a large short cut has a mistake in it.
        let way = |one: Region, other: Region| round_trip(one.name, other.name).unwrap_or_default();
        for one in REGIONS {
            for other in REGIONS {
                for between in REGIONS {
                    let detour = way(one, between) + way(between, other);
                    assert!(way(one, other) <= detour + Duration::from_millis(10));
                }
            }
        }
    }
}
