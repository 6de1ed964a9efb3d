//! HTTPS to a place that the operator named: this process dials it itself, at addresses of declared sites alone, and believes
//! no certificate but those of the place's own authority.

use std::{error::Error, net::IpAddr, sync::Arc};

use reqwest::{
    Certificate, ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
    tls::Version,
};

use crate::domain::territory::{Refused, Territory, Use};

/// An error with everything that caused it: that an address is refused stands behind the client's own words.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The refusal of an address that stands behind an error, if one does.
#[must_use]
pub fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// The address of a place is no URL.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoUrl(String);

/// A place, and what it is used for.
#[derive(Debug, Clone)]
pub struct Endpoint {
    place: String,
    /// The address that the URL names, for which no name is resolved.
    literal: Option<IpAddr>,
    used_for: Use,
    territory: Arc<dyn Territory>,
}

impl Endpoint {
    /// The place at a URL.
    ///
    /// # Errors
    /// [`NoUrl`].
    pub fn new(address: &str, used_for: Use, territory: Arc<dyn Territory>) -> Result<Self, NoUrl> {
        let url = Url::parse(address).map_err(|error| NoUrl(error.to_string()))?;
        let literal = literal(&url);
        Ok(Self { place: address.to_owned(), literal, used_for, territory })
    }

    /// A client for this place alone: no proxy of the environment, no redirect, the names of declared sites, and the roots of
    /// `authority` (PEM); without one no certificate is believed, so that plain HTTP alone is left.
    ///
    /// # Errors
    /// Where the roots do not parse.
    pub fn client(&self, authority: Option<&[u8]>) -> Result<ClientBuilder, reqwest::Error> {
        let roots = authority.map(Certificate::from_pem_bundle).transpose()?.unwrap_or_default();
        Ok(reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(AdmittedNames { used_for: self.used_for, territory: Arc::clone(&self.territory) })
            .redirect(Policy::none())
            .referer(false)
            .tls_certs_only(roots)
            .tls_version_min(Version::TLS_1_2))
    }

    /// Asks again where the URL names an address itself, since nothing is resolved then. Before each request.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self) -> Result<(), Refused> {
        self.literal.map_or(Ok(()), |address| self.admit_address(address))
    }

    /// The same for the URL of a request, where the client speaks to more than one place. What is no URL is dialled by nobody.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit_url(&self, url: &str) -> Result<(), Refused> {
        let Ok(url) = Url::parse(url) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default();
        literal(&url).map_or(Ok(()), |address| self.territory.admit(self.used_for, host, address))
    }

    /// Asks for an address that was reached.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit_address(&self, address: IpAddr) -> Result<(), Refused> {
        self.territory.admit(self.used_for, &self.place, address)
    }
}

/// The address that the host of a URL is by itself, as the connector reads it: other spellings of an address are that address.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Gives a connection the addresses of a name, each of them in a declared site: what the connector dials is what was
/// admitted, also where a name stands for something else each time.
struct AdmittedNames {
    used_for: Use,
    territory: Arc<dyn Territory>,
}

impl Resolve for AdmittedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (used_for, territory) = (self.used_for, Arc::clone(&self.territory));
        Box::pin(async move {
            let admitted = territory.resolve(used_for, name.as_str(), 0).await?;
            Ok::<Addrs, _>(Box::new(admitted.into_iter()))
        })
    }
}
