//! What a database server says of itself: where it is, who follows it, where its own log is copied to.

use std::net::IpAddr;

/// A process to which the server sends what is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Follower {
    /// As it calls itself.
    pub name: String,
    /// Where it connects from; none for a socket of the server's own machine.
    pub address: Option<IpAddr>,
}

/// A database server's whereabouts, as it tells them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// Its address of this connection; none for a socket.
    pub address: Option<IpAddr>,
    /// Whether the vault's user may see all of this (`pg_monitor`).
    pub shown: bool,
    /// Who follows it now.
    pub followers: Vec<Follower>,
    /// Replication slots, of which nobody has to use one now.
    pub slots: Vec<String>,
    /// What copies its own log, `archive_command` or `archive_library`, where something does.
    pub archive: Option<String>,
    /// Hosts and addresses that it would follow as a standby (`primary_conninfo`).
    pub upstream: Vec<String>,
}
