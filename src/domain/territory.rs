//! Where bytes may go: what a room that opens connections asks of whoever knows the declared sites.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use super::{code::coded, names::StorageSite, time::Timestamp};

coded! {
    /// What bytes go to a place for.
    Use, "use of a place" {
        /// The database that the vault writes to.
        Database = "database",
        /// Who follows that database.
        Replica = "replica",
        /// Where the database's own log is copied to.
        Archive = "archive",
        /// Where the root keys live.
        RootKey = "root-key",
        /// The second copy of the logs.
        Mirror = "mirror",
        /// Where backups go.
        Backups = "backups",
        /// Where parts of documents lie.
        Documents = "documents",
        /// Who is told of traces and metrics.
        Telemetry = "telemetry",
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A country by its two letters (ISO 3166-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// A text that is no country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a country is two capital letters, such as KZ")]
pub struct MalformedCountry;

impl Country {
    /// Its two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Country {
    type Err = MalformedCountry;

    fn from_str(text: &str) -> Result<Self, MalformedCountry> {
        match <[u8; 2]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(MalformedCountry),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a place is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
    /// Nobody declared it.
    #[error("no declared site covers it")]
    Uncovered,
    /// It is of a site in another country.
    #[error("it is of site {site} in {country}, and data stays in {home}")]
    Abroad {
        /// The site.
        site: StorageSite,
        /// Where that lies.
        country: Country,
        /// Where data stays.
        home: Country,
    },
    /// A private network, of which no registry can say where it lies.
    #[error("site {site} declares this private network, and no attestation says that it lies there")]
    Unattested {
        /// The site.
        site: StorageSite,
    },
    /// What was attested has an end.
    #[error("the attestation of site {site} ended at {ended_at}")]
    AttestationEnded {
        /// The site.
        site: StorageSite,
        /// When.
        ended_at: Timestamp,
    },
    /// A source says otherwise than the declaration.
    #[error("site {site} in {declared} declares it, and {source_name} place it in {country}")]
    Contradicted {
        /// The site.
        site: StorageSite,
        /// Where that lies.
        declared: Country,
        /// Who says otherwise.
        source_name: &'static str,
        /// What that says.
        country: Country,
    },
    /// Sources place it in the country, and they are too old to be believed.
    #[error("only {source_name} place it, and they are older than the limit of {days} days")]
    Stale {
        /// Which.
        source_name: &'static str,
        /// The limit.
        days: u32,
    },
    /// Such as `0.0.0.0`, or a group.
    #[error("it is not the address of one machine")]
    NotOneMachine,
    /// No site says that this machine is of it.
    #[error("it is this machine, and no site is declared as this machine's (`here = true`)")]
    NoHere,
    /// A file system over the network whose other end cannot be seen.
    #[error(
        "its file system ({kind}) is of another machine that cannot be seen, and no attestation names the mount"
    )]
    Unseen {
        /// Type of the file system.
        kind: String,
    },
    /// A command to which the database hands its own log.
    #[error("no attestation names this command, and where it writes cannot be seen")]
    UnknownArchive,
    /// Whoever could tell is not allowed to, or does not.
    #[error("{0}")]
    NotShown(String),
    /// It has no address at all.
    #[error("it has no address: {0}")]
    Unresolved(String),
    /// What goes on there cannot be known.
    #[error("{0}")]
    Unknown(String),
}

impl Outside {
    /// Whether nothing was seen outside, and nothing inside either.
    #[must_use]
    pub const fn is_unseen(&self) -> bool {
        matches!(self, Self::NotShown(_) | Self::Unresolved(_) | Self::Unknown(_))
    }
}

/// A place that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What for.
    pub used_for: Use,
    /// As it is configured, or as the database tells it.
    pub place: String,
    /// The address that was seen, where there was one.
    pub address: Option<IpAddr>,
    /// Why.
    pub why: Outside,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { used_for, place, address, why } = self;
        match address {
            Some(address) => write!(f, "residency: the {used_for} at {place} is at {address}: {why}"),
            None => write!(f, "residency: the {used_for} at {place}: {why}"),
        }
    }
}

impl std::error::Error for Refused {}

/// Knows where bytes may go.
#[async_trait::async_trait]
pub trait Territory: Send + Sync + fmt::Debug {
    /// Refuses an address that a connection goes to, or would.
    ///
    /// # Errors
    /// [`Refused`].
    fn admit(&self, used_for: Use, place: &str, address: IpAddr) -> Result<(), Refused>;

    /// Refuses a file or a socket of this machine where no site is this machine's, or where the file is another's.
    ///
    /// # Errors
    /// [`Refused`].
    fn admit_path(&self, used_for: Use, path: &Path) -> Result<(), Refused>;

    /// The addresses of a host, each of them admitted: a name that stands for a place outside is refused as a whole.
    ///
    /// # Errors
    /// [`Refused`].
    async fn resolve(&self, used_for: Use, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused>;

    /// Where connections of this process to a port go, as its kernel says. None on systems that do not tell.
    ///
    /// # Errors
    /// [`io::Error`] where the kernel should tell and does not.
    fn peers(&self, port: u16) -> io::Result<Option<Vec<IpAddr>>>;
}
