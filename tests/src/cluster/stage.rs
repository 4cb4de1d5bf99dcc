//! A cluster with clients on every node, all in one room, who have all found each other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::{Client, Heard};
use super::report::Report;
use super::watch::Watch;
use super::{Cluster, Failure, PATIENCE, eventually};

/// The room that everybody is in.
pub const ROOM: &str = "stage";

/// How often each client moves.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Cluster, clients and watch together. Fields are dropped in this order.
#[derive(Debug)]
pub struct Stage {
    /// The pages.
    pub clients: Vec<Client>,
    /// Who is in the room as each node tells it.
    pub watch: Watch,
    /// The nodes.
    pub cluster: Cluster,
}

/// How often a change is expected to be seen: (left, came back). `None`: not looked at.
pub type Expected = Option<(usize, usize)>;

/// Who was on which node at some moment: id to node.
pub type Cast = BTreeMap<String, String>;

impl Stage {
    /// Opens `per_node` pages on each node of a cluster and waits until each hears all others.
    pub async fn set(cluster: Cluster, per_node: usize) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        for name in cluster.names() {
            let web = cluster.web(&name)?;
            nodes.push((name, web));
        }
        let watch = Watch::start(&nodes, ROOM);
        let clients = nodes
            .iter()
            .flat_map(|(node, addr)| {
                (0..per_node).map(move |index| {
                    Client::open(&format!("{node}-{index}"), node, *addr, ROOM, Some(PERIOD))
                })
            })
            .collect();
        let stage = Self {
            clients,
            watch,
            cluster,
        };
        stage.until_complete(PATIENCE).await?;
        stage.mark();
        Ok(stage)
    }

    /// Three nodes behind the fault proxy with two pages each.
    pub async fn of_three() -> Result<Self, Failure> {
        Self::set(Cluster::start(&["n1", "n2", "n3"], &[]).await?, 2).await
    }

    /// Waits until every node shows every page, and every page has heard every other lately.
    pub async fn until_complete(&self, patience: Duration) -> Result<Duration, Failure> {
        eventually(
            patience,
            "every page sees and hears every other",
            async || Ok(self.is_listed() && self.is_heard()),
        )
        .await
    }

    /// Waits until every node shows exactly the pages that are open.
    pub async fn until_listed(&self, patience: Duration) -> Result<Duration, Failure> {
        eventually(patience, "every node shows every page", async || {
            Ok(self.is_listed())
        })
        .await
    }

    fn is_listed(&self) -> bool {
        let cast = self.cast();
        cast.len() == self.clients.len()
            && self
                .cluster
                .names()
                .iter()
                .all(|node| self.watch.members(node) == cast)
    }

    fn is_heard(&self) -> bool {
        let cast = self.cast();
        self.clients.iter().all(|client| {
            let diary = client.diary();
            cast.keys().all(|id| {
                let at = diary.heard.get(id).and_then(|heard| heard.at);
                at.is_some_and(|at| at.elapsed() < Duration::from_secs(1))
            })
        })
    }

    /// The pages that are there now: the id of each and its node.
    pub fn cast(&self) -> Cast {
        self.clients
            .iter()
            .filter(|client| client.diary().open)
            .filter_map(|client| Some((client.id()?, client.node.clone())))
            .collect()
    }

    /// From now on gaps, ages and departures count anew.
    pub fn mark(&self) {
        for client in &self.clients {
            client.mark();
        }
    }

    /// Waits until a node shows, of `cast`, exactly those on `shown` nodes.
    pub async fn until_shown(
        &self,
        patience: Duration,
        cast: &Cast,
        node: &str,
        shown: &[&str],
    ) -> Result<Duration, Failure> {
        let what = format!(
            "{node} shows of those who were there exactly those on {}",
            shown.join(", ")
        );
        eventually(patience, &what, async || {
            let members = self.watch.members(node);
            Ok(cast
                .iter()
                .all(|(id, owner)| members.contains_key(id) == shown.contains(&owner.as_str())))
        })
        .await
    }

    /// What pages on one node heard of those of `cast` on another, since the last mark.
    pub fn heard(&self, listener: &str, cast: &Cast, speaker: &str) -> Vec<Heard> {
        let mut found = Vec::new();
        for client in self.clients.iter().filter(|client| client.node == listener) {
            let diary = client.diary();
            let ids = cast.iter().filter(|(_, owner)| *owner == speaker);
            found.extend(ids.filter_map(|(id, _)| diary.heard.get(id).cloned()));
        }
        found
    }

    /// The longest time that pages on one node heard nothing of somebody on another.
    pub fn gap(&self, listener: &str, cast: &Cast, speaker: &str) -> Duration {
        let heard = self.heard(listener, cast, speaker);
        heard
            .iter()
            .map(|heard| {
                heard
                    .at
                    .map_or(heard.gap_max, |at| heard.gap_max.max(at.elapsed()))
            })
            .max()
            .unwrap_or_default()
    }

    /// Numbers that pages on one node never heard of those on another, since the last mark.
    pub fn missing(&self, listener: &str, cast: &Cast, speaker: &str) -> u64 {
        self.heard(listener, cast, speaker)
            .iter()
            .map(|heard| heard.missing)
            .sum()
    }

    /// A quantile (0 to 1) of the ages of what pages on one node heard from another, in ms.
    pub fn age_ms(&self, listener: &str, cast: &Cast, speaker: &str, quantile: f64) -> f64 {
        let heard = self.heard(listener, cast, speaker);
        let ages = heard.into_iter().flat_map(|heard| heard.ages_us).collect();
        quantile_us(ages, quantile) as f64 / 1000.0
    }

    /// Adds to the report what no page must ever see, whatever happens.
    pub fn judge(&self, report: &mut Report) {
        for client in &self.clients {
            for problem in &client.diary().problems {
                report
                    .problems
                    .push(format!("{} saw: {problem}", client.name));
            }
        }
    }

    /// Adds to the report where a node or a page saw a member of `cast` leave or come back another
    /// number of times than expected of (observing node, member's node) since `since`.
    pub fn judge_changes(
        &self,
        report: &mut Report,
        since: Instant,
        cast: &Cast,
        expected: impl Fn(&str, &str) -> Expected,
    ) {
        for observer in self.cluster.names() {
            let changes = self.watch.changes(&observer, since);
            for (id, owner) in cast {
                let Some((left, back)) = expected(&observer, owner) else {
                    continue;
                };
                let count = |joined| {
                    changes
                        .iter()
                        .filter(|change| change.member == *id && change.joined == joined)
                        .count()
                };
                let told = (count(false), count(true));
                report.expect(told == (left, back), || {
                    format!("{observer} showed a member on {owner} leaving {} and coming back {} times, not {left} and {back}", told.0, told.1)
                });
                // A page that came later does not hear of those who left before.
                let witnesses = self.clients.iter().filter(|client| {
                    client.node == observer && client.id().is_some_and(|id| cast.contains_key(&id))
                });
                for client in witnesses {
                    let notices = client
                        .diary()
                        .heard
                        .get(id)
                        .map_or(0, |heard| heard.left as usize);
                    report.expect(notices == left, || {
                        format!("{} was told {notices} times, not {left}, that a member on {owner} left", client.name)
                    });
                }
            }
        }
    }
}

/// A quantile of numbers in any order; zero of none.
pub fn quantile_us(mut numbers: Vec<u64>, quantile: f64) -> u64 {
    numbers.sort_unstable();
    let index = (numbers.len() as f64 * quantile) as usize;
    numbers
        .get(index.min(numbers.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}
