//! Declared sites, and which of them an address is of. Pure: the time is an argument.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use super::sources::Source;
use crate::domain::{
    names::{PersonHandle, StorageSite},
    territory::{Country, Outside},
    time::Timestamp,
};

/// Nobody's data centre is wider; such a declaration would be no declaration.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 19;

/// A declaration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undeclarable(pub(super) String);

/// An operator's statement that a network or a mount is of a site, where no source can say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Networks, each inside one that the site declares.
    pub networks: Vec<IpNet>,
    /// Mount points of file systems over the network whose other end cannot be seen.
    pub mounts: Vec<PathBuf>,
    /// Values of `archive_command` or `archive_library` of the database, in full.
    pub archives: Vec<String>,
    /// Who states it.
    pub by: PersonHandle,
    /// Until when it holds.
    pub until: Timestamp,
    /// What is stated.
    pub statement: String,
}

/// A declared place where bytes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: StorageSite,
    /// Where it lies.
    pub country: Country,
    /// Its networks.
    pub networks: Vec<IpNet>,
    /// Whether this machine is of it.
    pub here: bool,
    /// Whether every public address that the sources place in its country is of it.
    pub registered: bool,
    /// What the operator states.
    pub attestations: Vec<Attestation>,
}

/// Why an address is believed to be of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// It is this machine.
    Here,
    /// A declared public network, which no source places elsewhere.
    Declared,
    /// An operator's statement.
    Attested {
        /// Whose.
        by: PersonHandle,
        /// Until when it holds.
        until: Timestamp,
    },
    /// The sources place it in the site's country.
    Registered,
}

impl Basis {
    /// A stable word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Declared => "declared",
            Self::Attested { .. } => "attested",
            Self::Registered => "registered",
        }
    }
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The site.
    pub site: StorageSite,
    /// Where that lies.
    pub country: Country,
    /// Why that is believed.
    pub basis: Basis,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, country, basis } = self;
        match basis {
            Basis::Attested { by, until } => {
                write!(f, "site {site} in {country}, attested by {by} until {until}")
            }
            Basis::Here | Basis::Declared | Basis::Registered => {
                write!(f, "site {site} in {country}, {}", basis.as_str())
            }
        }
    }
}

/// Every declared site, and what is known of public addresses.
#[derive(Debug)]
pub struct Sites {
    home: Country,
    declared: Vec<Site>,
    sources: Vec<Box<dyn Source>>,
    max_age_days: u32,
}

impl Sites {
    /// Holds declarations against each other.
    ///
    /// # Errors
    /// [`Undeclarable`] says which makes no sense.
    pub fn new(
        home: Country,
        sites: Vec<Site>,
        sources: Vec<Box<dyn Source>>,
        max_age_days: u32,
    ) -> Result<Self, Undeclarable> {
        let mut owners: BTreeMap<IpNet, &StorageSite> = BTreeMap::new();
        for (at, site) in sites.iter().enumerate() {
            let refused = |rule: &str| Undeclarable(format!("site {}: {rule}", site.name));
            let wrong = |rule: &str| Err(refused(rule));
            let earlier = sites.get(..at).unwrap_or_default();
            if earlier.iter().any(|other| other.name == site.name) {
                return wrong("it is declared twice");
            }
            if site.here && earlier.iter().any(|other| other.here) {
                return wrong("two sites are declared as this machine's");
            }
            if site.registered && earlier.iter().any(|o| o.registered && o.country == site.country) {
                return wrong("another site has every registered address of this country already");
            }
            if !site.here && !site.registered && site.networks.is_empty() {
                return wrong("it has no networks, and is neither `here` nor `registered`");
            }
            if site.registered && sources.is_empty() {
                return wrong("`registered` needs `delegated` or `mmdb`");
            }
            for network in &site.networks {
                check_network(*network).map_err(|rule| refused(&rule))?;
                if let Some(other) = owners.insert(*network, &site.name) {
                    return wrong(&format!("{network} is of site {other} already"));
                }
            }
            for attestation in &site.attestations {
                check_attestation(site, attestation).map_err(|rule| refused(&rule))?;
            }
        }
        Ok(Self { home, declared: sites, sources, max_age_days })
    }

    /// The declared sites.
    #[must_use]
    pub fn all(&self) -> &[Site] {
        &self.declared
    }

    /// Where data stays.
    #[must_use]
    pub const fn home(&self) -> Country {
        self.home
    }

    /// Where an address is, if that is where data may be. The narrowest declared network decides.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn where_is(&self, address: IpAddr, now: Timestamp) -> Result<Located, Outside> {
        let address = address.to_canonical();
        if !is_one_machine(address) {
            return Err(Outside::NotOneMachine);
        }
        match self.declaring(address) {
            Some(site) => self.in_declared(site, address, now),
            None if address.is_loopback() => self.here(),
            None if is_private(address) => Err(Outside::Uncovered),
            None => self.registered(address, now),
        }
    }

    /// The site that this machine is of, if data may be there.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn here(&self) -> Result<Located, Outside> {
        let site = self.declared.iter().find(|site| site.here).ok_or(Outside::NoHere)?;
        self.at(site, Basis::Here)
    }

    /// Where a file system is whose other end cannot be seen: where somebody attests its mount.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn where_is_mount(
        &self,
        point: &std::path::Path,
        kind: &str,
        now: Timestamp,
    ) -> Result<Located, Outside> {
        let names = |a: &Attestation| a.mounts.iter().any(|mount| mount == point);
        self.attested(names, now).unwrap_or_else(|| Err(Outside::Unseen { kind: kind.to_owned() }))
    }

    /// Where a command writes to which the database hands its own log.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn where_is_archive(&self, command: &str, now: Timestamp) -> Result<Located, Outside> {
        let names = |a: &Attestation| a.archives.iter().any(|archive| archive == command);
        self.attested(names, now).unwrap_or(Err(Outside::UnknownArchive))
    }

    /// The first site with a matching attestation, by the one that holds longest.
    fn attested(
        &self,
        names: impl Fn(&Attestation) -> bool,
        now: Timestamp,
    ) -> Option<Result<Located, Outside>> {
        self.declared.iter().find_map(|site| {
            let matching = site.attestations.iter().filter(|attestation| names(attestation));
            let attested = matching.max_by_key(|attestation| attestation.until)?;
            Some(valid(site, attested, now).and_then(|basis| self.at(site, basis)))
        })
    }

    fn declaring(&self, address: IpAddr) -> Option<&Site> {
        let networks = self.declared.iter().flat_map(|site| site.networks.iter().map(move |n| (site, n)));
        let covering = networks.filter(|(_, network)| network.contains(&address));
        covering.max_by_key(|(_, network)| network.prefix_len()).map(|(site, _)| site)
    }

    fn in_declared(&self, site: &Site, address: IpAddr, now: Timestamp) -> Result<Located, Outside> {
        let attested = attesting(site, address).map(|attested| valid(site, attested, now));
        let located = self.at(site, Basis::Declared)?;
        let contradicted = if address.is_loopback() {
            None
        } else if is_private(address) {
            Some(Outside::Unattested { site: site.name.clone() })
        } else {
            self.contradiction(site, address)?
        };
        match (contradicted, attested) {
            (_, Some(Ok(basis))) => Ok(Located { basis, ..located }),
            (None, None | Some(Err(_))) => Ok(located),
            (Some(_), Some(Err(ended))) => Err(ended),
            (Some(outside), None) => Err(outside),
        }
    }

    fn contradiction(&self, site: &Site, address: IpAddr) -> Result<Option<Outside>, Outside> {
        for source in &self.sources {
            if let Some(country) = source.country_of(address)?.filter(|country| *country != site.country) {
                return Ok(Some(Outside::Contradicted {
                    site: site.name.clone(),
                    declared: site.country,
                    source_name: source.name(),
                    country,
                }));
            }
        }
        Ok(None)
    }

    fn registered(&self, address: IpAddr, now: Timestamp) -> Result<Located, Outside> {
        let mut stale = None;
        for source in &self.sources {
            let Some(country) = source.country_of(address)? else { continue };
            let Some(site) = self.declared.iter().find(|site| site.registered && site.country == country)
            else {
                return Err(Outside::Uncovered);
            };
            let limit = i64::from(self.max_age_days) * 24 * 3600;
            if now.second().saturating_sub(source.built_at().second()) > limit {
                stale = Some(Outside::Stale { source_name: source.name(), days: self.max_age_days });
                continue;
            }
            return match self.contradiction(site, address)? {
                None => self.at(site, Basis::Registered),
                Some(outside) => Err(outside),
            };
        }
        Err(stale.unwrap_or(Outside::Uncovered))
    }

    fn at(&self, site: &Site, basis: Basis) -> Result<Located, Outside> {
        if site.country == self.home {
            return Ok(Located { site: site.name.clone(), country: site.country, basis });
        }
        Err(Outside::Abroad { site: site.name.clone(), country: site.country, home: self.home })
    }
}

fn check_network(network: IpNet) -> Result<(), String> {
    let (widest, mapped) = match network {
        IpNet::V4(_) => (WIDEST_V4, false),
        IpNet::V6(v6) => (WIDEST_V6, v6.network().to_ipv4_mapped().is_some()),
    };
    if network.trunc() != network {
        return Err(format!("{network} has bits beyond its prefix; {} is meant?", network.trunc()));
    }
    if mapped {
        return Err(format!("{network} is IPv4 in the form of IPv6; write it as IPv4"));
    }
    if network.prefix_len() < widest {
        return Err(format!("{network} is too wide to be a site's"));
    }
    Ok(())
}

fn check_attestation(site: &Site, attestation: &Attestation) -> Result<(), String> {
    if attestation.networks.is_empty() && attestation.mounts.is_empty() && attestation.archives.is_empty() {
        return Err("an attestation names networks, mounts or archives".to_owned());
    }
    if attestation.statement.trim().is_empty() {
        return Err("an attestation says in `statement` where it lies, and how that is known".to_owned());
    }
    match attestation.networks.iter().find(|n| !site.networks.iter().any(|own| own.contains(*n))) {
        Some(network) => Err(format!("the attested {network} is in no network of the site")),
        None => Ok(()),
    }
}

/// The attestation of the narrowest network; of two, the one that holds longer.
fn attesting(site: &Site, address: IpAddr) -> Option<&Attestation> {
    let width = |attestation: &Attestation| {
        let covering = attestation.networks.iter().filter(|network| network.contains(&address));
        covering.map(IpNet::prefix_len).max()
    };
    let covering = site.attestations.iter().filter_map(|a| width(a).map(|width| (width, a)));
    covering.max_by_key(|(width, a)| (*width, a.until)).map(|(_, attestation)| attestation)
}

fn valid(site: &Site, attestation: &Attestation, now: Timestamp) -> Result<Basis, Outside> {
    if now < attestation.until {
        return Ok(Basis::Attested { by: attestation.by.clone(), until: attestation.until });
    }
    Err(Outside::AttestationEnded { site: site.name.clone(), ended_at: attestation.until })
}

fn is_one_machine(address: IpAddr) -> bool {
    let group = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets().first() == Some(&0),
        IpAddr::V6(_) => false,
    };
    !(address.is_unspecified() || address.is_multicast() || group)
}

/// Whether no registry can say where it lies: many networks use it.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
