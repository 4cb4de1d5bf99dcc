//! The rules whose loss the simulator must notice.
//!
//! In a normal build every rule holds and the checks cost nothing. With the feature `mutants`, a
//! test may switch one off and see that a seeded run fails: that is how the simulator's judgement
//! is itself judged.

/// A rule of the replication protocol that can be switched off under the feature `mutants`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A delta that starts beyond what was applied is not applied but pulled.
    GapIsPulled,
    /// A snapshot replaces a table; it is not merged into it.
    SnapshotSwaps,
    /// Operations already applied are ignored.
    DuplicateIsIgnored,
    /// Frames of an older boot are dropped.
    StaleBootIsDropped,
    /// A newer boot ends the rows of the older one.
    NewBootSupersedes,
    /// Hearing of an owner for the first time from a third party is no evidence of its life.
    FirstSightingIsNoEvidence,
    /// Evidence carries its age.
    EvidenceCarriesAge,
    /// An owner without link and evidence is hidden.
    SilentOwnerIsHidden,
    /// Digests are exchanged.
    DigestRepairs,
    /// Evidence through others keeps an owner visible without a link.
    EvidenceThroughOthers,
    /// The highest epoch wins the fold.
    HighestEpochWins,
    /// A node whose member was taken over yields its row.
    LoserYields,
    /// A reader keeps showing a moved member until the new row arrives.
    MovedKeepsShowing,
    /// The keeping ends after a time.
    MovedTimesOut,
    /// A moved member that leaves stays as a tombstone.
    GoneStays,
    /// A joining member's epoch is above every epoch known.
    EpochRises,
    /// A node that hears of its own higher boot takes a higher one still.
    BootIsRaised,
    /// Messages already delivered are ignored.
    MessageDuplicateIsIgnored,
    /// A gap in messages is pulled before later ones are delivered.
    MessageGapIsPulled,
    /// What was sent to an interest that has ended begins no new one.
    EarlierInterestIsOver,
    /// A link that comes up is told how far each room's messages are.
    HeadsOnLinkUp,
    /// A cursor position older than the last one delivered is dropped.
    CursorOrder,
    /// A cursor for an unknown handle is held for a while.
    CursorHeld,
    /// The last position of a cursor that stopped is sent again.
    CursorResent,
    /// A relay forwards only what came from its origin, and once.
    RelayOnce,
    /// Frames go through a relay while the direct link is down.
    RelayUsed,
    /// What several nodes of another region are to get crosses to one of them, which passes it on.
    OneCopyPerRegion,
    /// SWIM's needless "you are down" to a healthy member is withheld.
    SwimGuard,
    /// A leave does not overtake the member's last messages.
    LeaveFollowsMessages,
    /// A message does not overtake its sender's join.
    MessagesFollowJoin,
    /// The grace period ends with a leave.
    GraceEnds,
    /// A connection that broke keeps its row, marked away.
    BrokenIsAway,
    /// A node that leaves on purpose may leave its rows behind for a while.
    ByeLingers,
    /// Any node serves any owner's rows.
    AnyNodeServes,
    /// A pull that nobody answers is asked anew.
    PullIsRenewed,
    /// Rows of a hidden owner are kept for a quick return.
    HiddenRowsAreKept,
    /// What ended long ago is forgotten.
    OldIsPurged,
    /// Time in which this node stood still counts against nobody.
    StallIsForgiven,
    /// A node whose clock was set back is told of its newer life through a relay too.
    NewerLifeIsTold,
    /// On a slow link older messages give way.
    SlowLinkGivesWay,
    /// Recent messages are kept for those who missed them.
    RingIsKept,
    /// Who relies on a third node's answer hears the origin from there on.
    AnswerIsPinned,
    /// It is said through a relay how far the messages are.
    TailsThroughRelay,
    /// What a link may have lost when it broke is told of later.
    BrokenLinkIsDoubted,
    /// Who enters a room is sent where the cursors are.
    CurrentCursorsAreSent,
    /// Who has seen a later life of a node missed nothing of an earlier one.
    LaterLifeIsSeen,
    /// How long answers about missed events are waited for follows the round trips.
    PatienceFollowsRoundTrip,
    /// Evidence of a far node may be older than that of a near one.
    EvidenceFollowsRoundTrip,
}

/// Which rules hold.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    #[cfg(feature = "mutants")]
    off: std::collections::BTreeSet<Rule>,
}

impl Rules {
    /// Whether a rule holds: always, in a normal build.
    #[cfg(not(feature = "mutants"))]
    #[inline]
    pub const fn hold(&self, _rule: Rule) -> bool {
        true
    }

    /// Whether a rule holds.
    #[cfg(feature = "mutants")]
    pub fn hold(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    /// Switches a rule off.
    #[cfg(feature = "mutants")]
    pub fn without(rule: Rule) -> Self {
        Self { off: [rule].into() }
    }
}
