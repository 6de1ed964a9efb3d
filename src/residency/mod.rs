//! In-country by enforcement: declared sites, and which of them an address, a file or a socket is of.
//!
//! What nobody declared is outside. A declaration of a public network is held against what registries and databases of
//! countries say of it; that a private network lies where it is declared is an operator's statement, and shown as such.

mod mounts;
pub mod sites;
mod sockets;
pub mod sources;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::domain::{
    code::coded,
    territory::{Outside, Refused, Territory, Use},
    time::{Clock, Timestamp},
};
use mounts::Holder;
use sites::{Located, Sites};

/// The end of a day such as `2027-11-01`, in UTC.
#[must_use]
pub fn end_of_day(text: &str) -> Option<Timestamp> {
    text.parse().ok().and_then(sources::end_of)
}

/// Gives the addresses of a name.
#[async_trait::async_trait]
pub trait Names: fmt::Debug + Send + Sync {
    /// Every address of a host.
    ///
    /// # Errors
    /// [`io::Error`] where it has none.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemNames;

#[async_trait::async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A place that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file or a directory, which may be made later, or a socket.
    Path(PathBuf),
    /// A host and a port.
    Host(String, u16),
}

/// A place, and what it is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What for.
    pub used_for: Use,
    /// Where.
    pub place: Place,
}

impl Target {
    /// The place as people read it.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.place {
            Place::Path(path) => path.display().to_string(),
            Place::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Host(host, port) => format!("{host}:{port}"),
        }
    }
}

/// What was seen of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the place is used for.
    pub used_for: Use,
    /// The place as it is configured, or as the database tells it.
    pub place: String,
    /// The address that was seen, where there was one.
    pub address: Option<IpAddr>,
    /// Where that is.
    pub outcome: Result<Located, Outside>,
}

coded! {
    /// How a place was seen.
    Seen, "way of being seen" {
        /// In a declared site.
        Inside = "INSIDE",
        /// Outside, or where nobody declared anything.
        Outside = "OUTSIDE",
        /// Not at all.
        Unseen = "UNSEEN",
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.outcome, self.refused(), self.address) {
            (Ok(located), _, Some(address)) => {
                write!(f, "the {} at {} is at {address}: {located}", self.used_for, self.place)
            }
            (Ok(located), _, None) => write!(f, "the {} at {}: {located}", self.used_for, self.place),
            (Err(_), Some(refused), _) => refused.fmt(f),
            (Err(outside), None, _) => outside.fmt(f),
        }
    }
}

impl Finding {
    /// How it was seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        match &self.outcome {
            Ok(_) => Seen::Inside,
            Err(outside) if outside.is_unseen() => Seen::Unseen,
            Err(_) => Seen::Outside,
        }
    }

    /// The refusal of a place that is outside.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        let why = self.outcome.as_ref().err()?.clone();
        Some(Refused { used_for: self.used_for, place: self.place.clone(), address: self.address, why })
    }
}

/// The declared sites, asked at the present time.
#[derive(Debug)]
pub struct Residency {
    sites: Sites,
    clock: Arc<Clock>,
    names: Arc<dyn Names>,
}

impl Residency {
    /// Asks these sites, and this resolver for the addresses of names.
    #[must_use]
    pub fn new(sites: Sites, clock: Arc<Clock>, names: Arc<dyn Names>) -> Self {
        Self { sites, clock, names }
    }

    /// The declared sites.
    #[must_use]
    pub const fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Looks where places are, and what is at every address of a host.
    pub async fn look(&self, targets: &[Target]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for target in targets {
            let seen = match &target.place {
                Place::Path(path) => vec![self.at_path(path)],
                Place::Host(host, port) => match self.addresses(host, *port).await {
                    Ok(all) => all.iter().map(|a| (Some(a.ip()), self.where_is(a.ip()))).collect(),
                    Err(outside) => vec![(None, Err(outside))],
                },
            };
            findings.extend(seen.into_iter().map(|(address, outcome)| Finding {
                used_for: target.used_for,
                place: target.place(),
                address,
                outcome,
            }));
        }
        findings
    }

    /// Where an address is now.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn where_is(&self, address: IpAddr) -> Result<Located, Outside> {
        self.sites.where_is(address, self.clock.now())
    }

    /// Where a command writes to which the database hands its own log: where an attestation says.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn where_is_archive(&self, command: &str) -> Result<Located, Outside> {
        self.sites.where_is_archive(command, self.clock.now())
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Outside> {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = self.names.addresses(host, port).await;
        let mut found = found.map_err(|error| Outside::Unresolved(error.to_string()))?;
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            return Err(Outside::Unresolved("its name has none".to_owned()));
        }
        Ok(found)
    }

    fn at_path(&self, path: &Path) -> (Option<IpAddr>, Result<Located, Outside>) {
        match holder(path) {
            Ok(Holder::Here) => (None, self.sites.here()),
            Ok(Holder::At(address)) => (Some(address), self.where_is(address)),
            Ok(Holder::Unseen(point, kind)) => {
                (None, self.sites.where_is_mount(&point, &kind, self.clock.now()))
            }
            Err(error) => (None, Err(Outside::Unknown(format!("its file system cannot be told: {error}")))),
        }
    }
}

/// Whose the file system of a path is, or of the nearest directory above it that is there.
fn holder(path: &Path) -> io::Result<Holder> {
    if !cfg!(target_os = "linux") {
        return Ok(Holder::Here);
    }
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts::holder(&mountinfo, &there.unwrap_or(absolute)))
}

#[async_trait::async_trait]
impl Territory for Residency {
    fn admit(&self, used_for: Use, place: &str, address: IpAddr) -> Result<(), Refused> {
        let refused = |why| Refused { used_for, place: place.to_owned(), address: Some(address), why };
        self.where_is(address).map(drop).map_err(refused)
    }

    fn admit_path(&self, used_for: Use, path: &Path) -> Result<(), Refused> {
        let (address, outcome) = self.at_path(path);
        let refused = |why| Refused { used_for, place: path.display().to_string(), address, why };
        outcome.map(drop).map_err(refused)
    }

    async fn resolve(&self, used_for: Use, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        let refused = |why| Refused { used_for, place: host.to_owned(), address: None, why };
        let found = self.addresses(host, port).await.map_err(refused)?;
        found.iter().try_for_each(|address| self.admit(used_for, host, address.ip()))?;
        Ok(found)
    }

    fn peers(&self, port: u16) -> io::Result<Option<Vec<IpAddr>>> {
        sockets::peers(port)
    }
}
