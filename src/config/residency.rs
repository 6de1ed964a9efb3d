//! `[residency]`: the country in which data stays, the sites in it, and what is believed of addresses.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Database, RootKey, read_bytes, read_text};
use crate::{
    domain::{
        names::{PersonHandle, StorageSite},
        territory::{Country, Use},
        time::Clock,
    },
    residency::{
        Names, Place, Residency, Target, end_of_day,
        sites::{Attestation, Site, Sites},
        sources::{Delegated, Geo, Source},
    },
    store::postgres::ServerPlace,
    vault::residency::ResidencyWatch,
};

/// Where data stays.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResidencyConfig {
    /// Two letters (ISO 3166-1).
    pub country: String,
    /// Delegated statistics of a registry, such as `delegated-ripencc-extended-latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<PathBuf>,
    /// Database of countries, MMDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mmdb: Option<PathBuf>,
    /// Days after which neither of the two places an address any more.
    #[serde(default = "default_max_age_days")]
    pub max_age_days: u32,
    /// Seconds between two looks at where everything is.
    #[serde(default = "default_check_seconds")]
    pub check_seconds: u64,
    /// Whether nothing new is stored while something lies outside.
    #[serde(default)]
    pub stop_writes: bool,
    /// Declared sites.
    pub site: Vec<SiteConfig>,
}

const fn default_check_seconds() -> u64 {
    60
}

/// An hour: a replica abroad has little by then.
const MAX_CHECK_SECONDS: u64 = 3600;

const fn default_max_age_days() -> u32 {
    45
}

/// A declared place where bytes live.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// Its name.
    pub name: String,
    /// Where it lies, if not in the country of `[residency]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Networks in CIDR notation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Whether this machine is of it.
    #[serde(default)]
    pub here: bool,
    /// Whether every public address is of it that the sources place in its country.
    #[serde(default)]
    pub registered: bool,
    /// What the operator states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attested: Vec<AttestedConfig>,
}

/// An operator's statement.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttestedConfig {
    /// Networks in CIDR notation, inside those of the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Mount points of file systems over the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<PathBuf>,
    /// Values of `archive_command` or `archive_library` of the database server, in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<String>,
    /// Handle of the person who states it.
    pub by: String,
    /// The last day on which it holds, such as `2027-11-01`.
    pub until: String,
    /// Where it lies, and how that is known.
    pub statement: String,
}

impl Config {
    /// The declared sites, with the data that places addresses.
    ///
    /// # Errors
    /// [`ConfigError`] where a declaration makes no sense, or a file cannot be read.
    pub fn residency(&self, clock: Arc<Clock>, names: Arc<dyn Names>) -> Result<Residency, ConfigError> {
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if let Some(file) = &self.residency.delegated {
            let file = self.resolve(file);
            let delegated = Delegated::parse(&read_text(&file)?);
            sources.push(Box::new(delegated.map_err(|e| self.rule(&format!("{}: {e}", file.display())))?));
        }
        if let Some(file) = &self.residency.mmdb {
            let file = self.resolve(file);
            let geo = Geo::parse(read_bytes(&file)?);
            sources.push(Box::new(geo.map_err(|e| self.rule(&format!("{}: {e}", file.display())))?));
        }
        let now = clock.now();
        for source in &sources {
            let age = Duration::from_hours(24).saturating_mul(self.residency.max_age_days);
            if source.built_at().plus(age) < now {
                tracing::warn!(
                    source = source.name(),
                    made_at = %source.built_at(),
                    "residency data is older than max_age_days: it places no address any more"
                );
            }
        }
        Ok(Residency::new(self.sites(sources)?, clock, names))
    }

    /// The watch over everything of this configuration.
    ///
    /// # Errors
    /// [`ConfigError`] where a place does not parse.
    pub fn residency_watch(&self, residency: Arc<Residency>) -> Result<ResidencyWatch, ConfigError> {
        Ok(ResidencyWatch {
            targets: self.targets()?,
            residency,
            every: Duration::from_secs(self.residency.check_seconds),
            stop_writes: self.residency.stop_writes,
        })
    }

    /// Everything of this configuration that holds bytes.
    ///
    /// # Errors
    /// [`ConfigError`] where a place does not parse.
    pub fn targets(&self) -> Result<Vec<Target>, ConfigError> {
        let path = |used_for, path: PathBuf| Target { used_for, place: Place::Path(path) };
        let mut targets = vec![match self.database()? {
            Database::Sqlite(file) => path(Use::Database, file),
            Database::Postgres(options) => {
                match options.place().map_err(|error| self.rule(&error.to_string()))? {
                    ServerPlace::Socket(directory) => path(Use::Database, directory),
                    ServerPlace::Host(host, port) => {
                        Target { used_for: Use::Database, place: Place::Host(host, port) }
                    }
                }
            }
        }];
        if let Some(mirror) = &self.mirror {
            targets.extend(self.stored_targets(mirror.stored())?);
        }
        if let Some(backup) = &self.backup {
            targets.push(path(Use::Backups, self.resolve(&backup.directory)));
        }
        if let Some(documents) = &self.documents {
            targets.extend(self.stored_targets(documents.stored())?);
        }
        targets.extend(self.traces_target()?);
        match self.root_key()? {
            RootKey::Local { file, unseal_key } => {
                targets.extend([file, unseal_key].map(|file| path(Use::RootKey, file)));
            }
            RootKey::Pkcs11 { module, .. } => targets.push(path(Use::RootKey, module)),
            RootKey::Transit { address, .. } => {
                let (host, port) = host_and_port(&address)
                    .ok_or_else(|| self.rule("root_key.address must be https://host:port"))?;
                targets.push(Target { used_for: Use::RootKey, place: Place::Host(host, port) });
            }
        }
        Ok(targets)
    }

    /// The declarations alone, without a look at files.
    pub(super) fn check_sites(&self) -> Result<(), ConfigError> {
        // Whether there are sources is all that the declarations depend on.
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if self.residency.delegated.is_some() || self.residency.mmdb.is_some() {
            let nothing = Delegated::parse("2|none|0|0|19700101|19700101|+0000");
            sources.push(Box::new(nothing.map_err(|error| self.rule(&error.to_string()))?));
        }
        if !(1..=MAX_CHECK_SECONDS).contains(&self.residency.check_seconds) {
            return Err(self.rule(&format!("residency.check_seconds must be from 1 to {MAX_CHECK_SECONDS}")));
        }
        self.sites(sources).map(drop)
    }

    fn sites(&self, sources: Vec<Box<dyn Source>>) -> Result<Sites, ConfigError> {
        let home: Country = self.residency_value("country", &self.residency.country)?;
        let sites = self.residency.site.iter().map(|site| self.site(site, home));
        let sites = sites.collect::<Result<Vec<_>, _>>()?;
        if sites.is_empty() {
            return Err(self.rule("[residency] needs at least one [[residency.site]]"));
        }
        Sites::new(home, sites, sources, self.residency.max_age_days)
            .map_err(|error| self.rule(&format!("[residency] {error}")))
    }

    fn site(&self, site: &SiteConfig, home: Country) -> Result<Site, ConfigError> {
        let country = site.country.as_ref().map(|country| self.residency_value("site.country", country));
        Ok(Site {
            name: self.residency_value::<StorageSite>("site.name", &site.name)?,
            country: country.transpose()?.unwrap_or(home),
            networks: self.residency_values("site.networks", &site.networks)?,
            here: site.here,
            registered: site.registered,
            attestations: site.attested.iter().map(|a| self.attestation(a)).collect::<Result<_, _>>()?,
        })
    }

    fn attestation(&self, attested: &AttestedConfig) -> Result<Attestation, ConfigError> {
        let until = end_of_day(&attested.until);
        let until = until
            .ok_or_else(|| self.rule("residency.site.attested.until must be a day, such as 2027-11-01"))?;
        Ok(Attestation {
            networks: self.residency_values("site.attested.networks", &attested.networks)?,
            mounts: attested.mounts.clone(),
            archives: attested.archives.clone(),
            by: self.residency_value::<PersonHandle>("site.attested.by", &attested.by)?,
            until,
            statement: attested.statement.clone(),
        })
    }

    fn residency_values<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        texts: &[String],
    ) -> Result<Vec<T>, ConfigError> {
        texts.iter().map(|text| self.residency_value(key, text)).collect()
    }

    fn residency_value<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        text: &str,
    ) -> Result<T, ConfigError> {
        text.parse().map_err(|error| self.rule(&format!("residency.{key} {text:?}: {error}")))
    }
}

/// Host and port of an HTTP address.
pub(super) fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|a| !a.is_empty() && !a.contains('@'))?;
    let default = if scheme == "https" { 443 } else { 80 };
    if let Some(literal) = authority.strip_prefix('[') {
        let (host, port) = literal.split_once(']')?;
        let port = if port.is_empty() { default } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((host.to_owned(), port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_ports() {
        for (address, host, port) in [
            ("https://bao.example.kz:8200", "bao.example.kz", 8200),
            ("https://bao.example.kz/", "bao.example.kz", 443),
            ("http://127.0.0.1", "127.0.0.1", 80),
            ("https://[2001:db8::1]:8200/v1", "2001:db8::1", 8200),
            ("https://[2001:db8::1]", "2001:db8::1", 443),
        ] {
            assert_eq!(host_and_port(address), Some((host.to_owned(), port)), "{address}");
        }
        for bad in ["bao", "https://", "https://user@bao.example.kz", "https://a:b", "https://[::1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
