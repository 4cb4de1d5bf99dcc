//! Close codes and reasons.

/// How a connection ends on the node's initiative: what its close frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    /// The code of RFC 6455 §7.4.
    pub(crate) code: u16,
    /// For people; at most 123 bytes.
    pub(crate) reason: &'static str,
}

impl Close {
    /// Nothing arrived for too long.
    pub(crate) const DEAD: Self = Self::new(1001, "no sign of life");
    /// The client sent text that is not UTF-8.
    pub(crate) const NOT_UTF8: Self = Self::new(1007, "text is not UTF-8");
    /// The member was removed, here or elsewhere in the cluster.
    pub(crate) const REMOVED: Self = Self::new(1008, "removed from the room");
    /// The connection missed so much that it cannot be told what, or what waits for it waits for
    /// longest while memory is short.
    pub(crate) const TOO_FAR_BEHIND: Self = Self::new(1008, "too far behind");
    /// Memory is short, and the connection holds the beginning of a message for longest.
    pub(crate) const UNFINISHED: Self = Self::new(1008, "message was not finished in time");
    /// A message above the limit.
    pub(crate) const TOO_BIG: Self = Self::new(1009, "message is too big");
    /// The node shuts down.
    pub(crate) const SHUTDOWN: Self = Self::new(1012, "node is shutting down");

    /// What waits for the client is more than is kept, and some of it may not be left out.
    pub(crate) const OVERLOADED: Self = Self::new(1013, "too much waits for this connection");
    /// The rest of the cluster did not answer a join.
    pub(crate) const UNANSWERED: Self = Self::new(1013, "the join was not answered in time");
    /// The client's SockJS frame is not one.
    pub(crate) const BROKEN_FRAMING: Self = Self::new(3000, "Broken framing.");
    /// The service is one that closes.
    pub(crate) const GO_AWAY: Self = Self::new(3000, "Go away!");
    /// No hello came.
    pub(crate) const NO_HELLO: Self = Self::new(4408, "no hello in time");
    /// The member is connected elsewhere now.
    pub(crate) const SUPERSEDED: Self = Self::new(4409, "this member is connected elsewhere");

    /// A v1 client said something that the protocol does not have.
    pub(crate) const fn bad_message(reason: &'static str) -> Self {
        Self::new(4400, reason)
    }

    /// Whether a v1 client that is closed with this does not come back.
    pub(crate) fn is_final(self) -> bool {
        self.code == 4400
    }

    pub(crate) const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// The client broke the framing rules.
    pub(crate) const fn protocol(reason: &'static str) -> Self {
        Self::new(1002, reason)
    }
}

/// Whether a close frame may carry `code` (RFC 6455 §7.4.1 and the IANA registry).
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
