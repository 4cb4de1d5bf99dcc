//! The world: nodes in their regions, the distances between them, and the people on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::map::{JITTER_MAX, LOSS, one_way};
use super::visitor::{Clock, Habits, Visitor};
use crate::cluster::network::Network;
use crate::cluster::{Cluster, Failure, eventually};

/// The room that everybody is in.
pub const ROOM: &str = "world";
/// How often each person moves.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Each person says something every so many moves.
const SAY_EVERY: u64 = 5;
/// How long the world may take to be whole again: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How large a world is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names of regions on the map.
    pub regions: Vec<&'static str>,
    /// Nodes in each.
    pub nodes: usize,
    /// People on each node.
    pub people: usize,
}

/// A running world. Fields are dropped in this order.
#[derive(Debug)]
pub struct World {
    /// Everybody, by node.
    pub people: Vec<Visitor>,
    /// The nodes.
    pub cluster: Cluster,
    /// How large it is.
    pub plan: Plan,
    habits: Habits,
}

/// The region of a node: its name without the number.
pub fn region_of(node: &str) -> &str {
    node.rsplit_once('-').map_or(node, |(region, _)| region)
}

impl Plan {
    /// The nodes' names: those of each region together.
    pub fn names(&self) -> Vec<String> {
        let numbers = 1..=self.nodes;
        self.regions
            .iter()
            .flat_map(|region| {
                numbers
                    .clone()
                    .map(move |number| format!("{region}-{number}"))
            })
            .collect()
    }

    /// Every pair of regions once.
    pub fn pairs(&self) -> Vec<(&'static str, &'static str)> {
        let mut pairs = Vec::new();
        for (index, one) in self.regions.iter().enumerate() {
            pairs.extend(self.regions[index + 1..].iter().map(|other| (*one, *other)));
        }
        pairs
    }

    /// The nodes of a region.
    pub fn nodes_of(&self, region: &str) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| region_of(name) == region);
        names
    }
}

impl World {
    /// Starts nodes with the distances between them, lets everybody in, and waits until each sees
    /// every other move.
    pub async fn start(plan: Plan) -> Result<Self, Failure> {
        let names = plan.names();
        let places: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), region_of(name)))
            .collect();
        let prepare = |network: &Network| emulate(network, &names);
        let cluster = Cluster::start_in_regions(&places, prepare).await?;
        let habits = Habits {
            room: ROOM.to_owned(),
            period: PERIOD,
            say_every: SAY_EVERY,
            moving: Arc::new(AtomicBool::new(true)),
            clock: Clock::start(),
        };
        let mut world = Self {
            people: Vec::new(),
            cluster,
            plan,
            habits,
        };
        for node in &names {
            for number in 0..world.plan.people {
                let person = world.enter(&format!("{node}.{number}"), node)?;
                world.people.push(person);
            }
        }
        world.until_whole(PATIENCE).await?;
        world.mark();
        Ok(world)
    }

    /// Lets one more person in at a node, who would go to the next of the same region if that closes.
    pub fn enter(&self, name: &str, node: &str) -> Result<Visitor, Failure> {
        let mut nodes = self.plan.nodes_of(region_of(node));
        let own = nodes.iter().position(|other| other == node).unwrap_or(0);
        nodes.rotate_left(own);
        let doors: Result<_, _> = nodes.iter().map(|node| self.cluster.web(node)).collect();
        Ok(Visitor::enter(name, node, doors?, self.habits.clone()))
    }

    /// Whether people move from now on.
    pub fn let_move(&self, moving: bool) {
        self.habits.moving.store(moving, Ordering::Relaxed);
    }

    /// From now on all diaries count anew.
    pub fn mark(&self) {
        for person in &self.people {
            person.mark();
        }
    }

    /// Waits until everybody sees everybody, and has seen each of them move within the last second.
    pub async fn until_whole(&self, patience: Duration) -> Result<Duration, Failure> {
        let names: BTreeSet<&str> = self.people.iter().map(|p| p.name.as_str()).collect();
        let begin = Instant::now();
        let outcome = eventually(patience, "everybody sees everybody move", async || {
            Ok(self.people.iter().all(|person| {
                let diary = person.diary();
                diary.open
                    && diary.present() == names
                    && names.iter().all(|name| {
                        let at = diary.heard.get(*name).and_then(|heard| heard.at);
                        *name == person.name
                            || at.is_some_and(|at| at.elapsed() < Duration::from_secs(1))
                    })
            }))
        })
        .await;
        match outcome {
            Ok(_) => Ok(begin.elapsed()),
            Err(error) => Err(format!("{error} ({})", self.lacking(&names)).into()),
        }
    }

    /// What is not as it should be, in a few words.
    fn lacking(&self, names: &BTreeSet<&str>) -> String {
        let mut words = Vec::new();
        for person in &self.people {
            let diary = person.diary();
            let present = diary.present();
            if !diary.open {
                words.push(format!("{} is not in the room", person.name));
            } else if present != *names {
                words.push(format!(
                    "{} sees {} of {}",
                    person.name,
                    present.len(),
                    names.len()
                ));
            }
            words.extend(diary.problems.iter().take(1).cloned());
        }
        words.truncate(5);
        words.join(", ")
    }

    /// Everybody on nodes of a region, or of all but one.
    pub fn people_in<'a>(&'a self, region: &'a str) -> impl Iterator<Item = &'a Visitor> {
        self.people
            .iter()
            .filter(move |person| person.region() == region)
    }

    /// Links from nodes of one region to nodes of another.
    pub fn links(&self, from: &str, to: &str) -> Vec<(String, String)> {
        let mut links = Vec::new();
        for sender in self.plan.nodes_of(from) {
            for receiver in self.plan.nodes_of(to) {
                if sender != receiver {
                    links.push((sender.clone(), receiver.clone()));
                }
            }
        }
        links
    }

    /// Nothing passes any more between any node of one region and any of another.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), Failure> {
        for (sender, receiver) in self.links(one, other) {
            self.cluster.network().cut(&sender, &receiver)?;
        }
        Ok(())
    }
}

/// Puts the distances of the map between nodes. Loss and jitter are between regions alone.
fn emulate(network: &Network, names: &[String]) -> Result<(), Failure> {
    for from in names {
        for to in names.iter().filter(|to| *to != from) {
            let (here, there) = (region_of(from), region_of(to));
            let is_far = here != there;
            network.faults(from, to, |faults| {
                faults.delay = one_way(here, there);
                if is_far {
                    (faults.jitter, faults.loss) = (JITTER_MAX, LOSS);
                }
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_after_their_regions() {
        let plan = Plan {
            regions: vec!["us-east", "sa-east", "eu-central"],
            nodes: 2,
            people: 1,
        };
        assert_eq!(plan.names().len(), 6);
        assert_eq!(plan.nodes_of("sa-east"), ["sa-east-1", "sa-east-2"]);
        assert_eq!(region_of("sa-east-2"), "sa-east");
        assert_eq!(plan.pairs().len(), 3);
    }
}
