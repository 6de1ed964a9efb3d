//! Where connections to the database really go, and what the server says of itself.

use std::{net::IpAddr, sync::Arc};

use sqlx::{Executor as _, Row as _, postgres::PgConnection};

use super::ServerPlace;
use crate::{
    domain::territory::{Outside, Refused, Territory, Use},
    store::whereabouts::{Follower, Whereabouts},
};

/// Refuses servers outside the declared sites.
#[derive(Debug, Clone)]
pub(super) struct Border {
    place: ServerPlace,
    territory: Arc<dyn Territory>,
}

impl Border {
    pub(super) fn new(place: ServerPlace, territory: &Arc<dyn Territory>) -> Self {
        Self { place, territory: Arc::clone(territory) }
    }

    /// Refuses a server before anything is sent to it.
    pub(super) async fn look(&self) -> Result<(), Refused> {
        match &self.place {
            ServerPlace::Socket(directory) => self.territory.admit_path(Use::Database, directory),
            ServerPlace::Host(host, port) => {
                self.territory.resolve(Use::Database, host, *port).await.map(drop)
            }
        }
    }

    /// Refuses an open connection by the address that was really reached: what this machine's kernel says of its other
    /// end, and then what the server says of its own. A name may stand for another address by now, and a server's own
    /// word is not enough for one that stands behind something.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let said = said_address(connection).await?;
        let refused = match &self.place {
            ServerPlace::Socket(_) => self.look().await.and_then(|()| match said {
                None => Ok(()),
                Some(address) => {
                    Err(self.refused(Some(address), "the server says that no socket reaches it"))
                }
            }),
            ServerPlace::Host(_, port) => self.admit_peers(*port).and_then(|local| match said {
                // The server's own loopback says only that something on its machine stands before it.
                Some(address) if address.is_loopback() && !local => Ok(()),
                Some(address) => self.admit(address),
                None => {
                    Err(self.refused(None, "the server says that a socket reaches it, and not the network"))
                }
            }),
        };
        refused.map_err(|refused| {
            tracing::error!(%refused, "a connection to the database is refused");
            sqlx::Error::Configuration(Box::new(refused))
        })
    }

    /// Admits where this process's connections to the port go; answers whether that is this machine itself.
    fn admit_peers(&self, port: u16) -> Result<bool, Refused> {
        let peers = self.territory.peers(port).map_err(|error| {
            self.refused(None, &format!("this machine's kernel does not say where connections go: {error}"))
        })?;
        let Some(peers) = peers else { return Ok(false) };
        if peers.is_empty() {
            return Err(self.refused(None, "this machine's kernel knows of no such connection"));
        }
        peers.iter().try_for_each(|peer| self.admit(*peer))?;
        Ok(peers.iter().all(IpAddr::is_loopback))
    }

    fn admit(&self, address: IpAddr) -> Result<(), Refused> {
        self.territory.admit(Use::Database, &self.place.to_string(), address)
    }

    fn refused(&self, address: Option<IpAddr>, why: &str) -> Refused {
        let why = Outside::Unknown(why.to_owned());
        Refused { used_for: Use::Database, place: self.place.to_string(), address, why }
    }
}

async fn said_address(connection: &mut PgConnection) -> sqlx::Result<Option<IpAddr>> {
    let row = connection.fetch_one("SELECT host(inet_server_addr())").await?;
    address(row.try_get(0)?)
}

/// An address as PostgreSQL writes it.
fn address(text: Option<String>) -> sqlx::Result<Option<IpAddr>> {
    let parse = |text: String| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    text.map(parse).transpose()
}

/// What the server says of itself. Who may not see it all is told so, and sees no followers.
pub(super) async fn whereabouts(connection: &mut PgConnection) -> sqlx::Result<Whereabouts> {
    let sql = "SELECT host(inet_server_addr()), pg_has_role(current_user, 'pg_monitor', 'USAGE')";
    let row = connection.fetch_one(sql).await?;
    let mut found =
        Whereabouts { address: address(row.try_get(0)?)?, shown: row.try_get(1)?, ..Whereabouts::default() };
    if !found.shown {
        return Ok(found);
    }
    // Ends of connections that are closing have no address any more, and send nothing.
    let sql = "SELECT application_name, host(client_addr) FROM pg_stat_replication WHERE state IS NOT NULL ORDER BY 1, 2";
    for row in connection.fetch_all(sql).await? {
        found.followers.push(Follower { name: row.try_get(0)?, address: address(row.try_get(1)?)? });
    }
    for row in connection.fetch_all("SELECT slot_name::text FROM pg_replication_slots ORDER BY 1").await? {
        found.slots.push(row.try_get(0)?);
    }
    let sql = "SELECT current_setting('archive_mode'), current_setting('archive_command', true), \
               current_setting('archive_library', true), current_setting('primary_conninfo', true)";
    let row = connection.fetch_one(sql).await?;
    let setting =
        |at: usize| row.try_get::<Option<String>, _>(at).map(|text| text.filter(|text| !text.is_empty()));
    if setting(0)?.as_deref() != Some("off") {
        found.archive = setting(2)?.or(setting(1)?);
    }
    found.upstream = setting(3)?.map(|text| hosts(&text)).unwrap_or_default();
    Ok(found)
}

/// Hosts and addresses in a connection string of libpq: `host=a,b hostaddr='10.0.0.1' …`, or a URI.
fn hosts(conninfo: &str) -> Vec<String> {
    let uri = ["postgres://", "postgresql://"].iter().find_map(|scheme| conninfo.strip_prefix(scheme));
    let lists: Vec<String> = match uri {
        Some(rest) => {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let listed = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
            let query = rest.split_once('?').map_or("", |(_, query)| query);
            let in_query = query.split('&').filter_map(|pair| pair.split_once('='));
            let named =
                in_query.filter(|(key, _)| ["host", "hostaddr"].contains(key)).map(|(_, v)| v.to_owned());
            let bare = listed.split(',').map(|host| without_port(host).to_owned());
            named.chain(bare).collect()
        }
        None => pairs(conninfo)
            .into_iter()
            .filter(|(k, _)| k == "host" || k == "hostaddr")
            .map(|(_, v)| v)
            .collect(),
    };
    let hosts = lists.iter().flat_map(|list| list.split(',')).filter(|host| !host.is_empty());
    hosts.map(str::to_owned).collect()
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((literal, _)) => literal,
        None => host.split(':').next().unwrap_or(host),
    }
}

/// `key = value` pairs, values bare or in single quotes, with backslashes before what would end them.
fn pairs(text: &str) -> Vec<(String, String)> {
    let (mut found, mut chars) = (Vec::new(), text.chars().peekable());
    loop {
        let key: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=')).collect();
        if chars.next().is_none() {
            return found;
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.extend(chars.next()),
                '\'' if quoted => break,
                c if c.is_whitespace() && !quoted => break,
                c => value.push(c),
            }
        }
        found.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_every_form_of_a_connection_string() {
        for (text, expected) in [
            ("", ""),
            ("user=replicator port=5432", ""),
            ("host=db-1.example.kz user=replicator", "db-1.example.kz"),
            ("user=r host = '10.0.0.1' password='a host=b\\' hostaddr=9.9.9.9' port=5432", "10.0.0.1"),
            ("host=a,b hostaddr=10.0.0.1,10.0.0.2", "a b 10.0.0.1 10.0.0.2"),
            ("host=/run/postgresql", "/run/postgresql"),
            ("password=host\\=x host=y", "y"),
            (
                "postgres://u:p@a:5433,[2001:db8::1]:5432/db?hostaddr=10.0.0.9&sslmode=require",
                "10.0.0.9 a 2001:db8::1",
            ),
            ("postgresql://a/db", "a"),
        ] {
            assert_eq!(hosts(text).join(" "), expected, "{text}");
        }
    }
}
