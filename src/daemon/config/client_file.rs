//! One client's file on the server: its keys, and where it differs from the policy's defaults.

use super::ConfigError;
use super::model::{MOST_HOURS, MOST_SERVICES, MOST_SOURCES, PolicyDefaults, is_name};
use super::secret::{SecretFile, Text};
use super::value::{duration, moment, shown};
use crate::access::{Access, Assurance, ClientId, Hours, Prefix, ServiceId};
use crate::crypto::{ClientKey, SecretText, hex, is_published, service_name};
use crate::time::{Seconds, Unix};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    id: Spanned<String>,
    key: Spanned<Text>,
    services: Option<Spanned<Vec<String>>>,
    ttl: Option<Spanned<String>>,
    max_ttl: Option<Spanned<String>>,
    max_leases: Option<Spanned<u16>>,
    sources: Option<Spanned<Vec<String>>>,
    source_address: Option<bool>,
    max_prefix_v4: Option<Spanned<u8>>,
    max_prefix_v6: Option<Spanned<u8>>,
    expires: Option<Spanned<String>>,
    uses: Option<u32>,
    hours: Option<Spanned<Vec<String>>>,
}

/// Where a client differs from the policy's defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Names of services.
    pub services: Option<Vec<String>>,
    /// Seconds.
    pub ttl: Option<u32>,
    /// Seconds.
    pub max_ttl: Option<u32>,
    /// At one time.
    pub max_leases: Option<u16>,
    /// The only networks that may be granted.
    pub sources: Vec<Prefix>,
    /// Whether the packet's source may be used.
    pub source_address: Option<bool>,
    /// The shortest IPv4 prefix length.
    pub max_prefix_v4: Option<u8>,
    /// The shortest IPv6 prefix length.
    pub max_prefix_v6: Option<u8>,
    /// The end of the credential.
    pub expires: Option<Unix>,
    /// Good for so many opens.
    pub uses: Option<u32>,
    /// The only hours in which he may open.
    pub hours: Vec<Hours>,
}

/// A client's file, read or to be written.
#[derive(Clone, Debug)]
pub struct ClientFile {
    /// The file's name without its suffix.
    pub name: String,
    /// The client's id.
    pub id: ClientId,
    /// The key that it shares with this server.
    pub key: ClientKey,
    /// Where it differs from the defaults.
    pub overrides: Overrides,
}

/// A value that is good; else its place.
fn within<T>(
    value: Option<Spanned<T>>,
    is_good: impl Fn(&T) -> bool,
) -> Result<Option<T>, Range<usize>> {
    match value {
        Some(v) if !is_good(v.get_ref()) => Err(v.span()),
        Some(v) => Ok(Some(v.into_inner())),
        None => Ok(None),
    }
}

impl ClientFile {
    /// Reads a client's file, which nobody else may be able to read.
    ///
    /// # Errors
    /// Line and column, never the text.
    pub fn load(path: &Path) -> Result<ClientFile, ConfigError> {
        let file = SecretFile::read(path)?;
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        ClientFile::parse(path, name, file.text())
    }

    /// Reads the text of a client's file.
    ///
    /// # Errors
    /// Line and column, never the text.
    pub fn parse(path: &Path, name: &str, text: &str) -> Result<ClientFile, ConfigError> {
        let wrong = |what: &str| ConfigError::new(path, what);
        if !is_name(name) {
            return Err(wrong("the file's name is no client name: use letters, digits, . - _ @"));
        }
        let raw: Raw = toml::from_str(text).map_err(|e| {
            ConfigError::of_secret(
                path,
                text,
                &e,
                "a client file, or has an unknown key or a wrong type here",
            )
        })?;
        let at = |span: Range<usize>, what: &str| ConfigError::at(path, text, span.start, what);
        let id = hex(raw.id.get_ref())
            .ok_or_else(|| at(raw.id.span(), "id: 16 hex digits are wanted"))?;
        let key = ClientKey::from_text(&raw.key.get_ref().0)
            .map_err(|e| at(raw.key.span(), &format!("key: {e}")))?;
        // What stands there is not repeated: it may be a key in the wrong place.
        let seconds = |value: Option<Spanned<String>>, wanted| match value {
            None => Ok(None),
            Some(t) => duration(t.get_ref()).map(Some).map_err(|_| at(t.span(), wanted)),
        };
        let expires = raw.expires.map(|t| {
            moment(t.get_ref()).map_err(|_| at(t.span(), "expires: write \"2026-12-31T23:59:59Z\""))
        });
        let sources = raw.sources.map(|list| {
            let networks: Option<Vec<Prefix>> =
                list.get_ref().iter().map(|t| t.parse().ok()).collect();
            networks
                .filter(|n| n.len() <= MOST_SOURCES)
                .ok_or_else(|| at(list.span(), "sources: at most 8, as \"192.0.2.0/24\""))
        });
        let hours = raw.hours.map(|list| {
            let spans: Option<Vec<Hours>> = list.get_ref().iter().map(|t| t.parse().ok()).collect();
            spans.filter(|s| (1..=MOST_HOURS).contains(&s.len())).ok_or_else(|| {
                at(list.span(), "hours: one to 8, as \"mon-fri 08:00-18:00\" or \"22:00-02:00\"")
            })
        });
        let names = |list: &Vec<String>| {
            (1..=MOST_SERVICES).contains(&list.len()) && list.iter().all(|s| is_name(s))
        };
        let services = within(raw.services, names)
            .map_err(|span| at(span, "services: one to 24 names of services"))?;
        let overrides = Overrides {
            services,
            ttl: seconds(raw.ttl, "ttl: write \"30s\", \"5m\" or \"2h\"")?,
            max_ttl: seconds(raw.max_ttl, "max-ttl: write \"30s\", \"5m\" or \"2h\"")?,
            max_leases: within(raw.max_leases, |n| *n > 0)
                .map_err(|span| at(span, "max-leases: 0 would never let anybody in"))?,
            sources: sources.transpose()?.unwrap_or_default(),
            source_address: raw.source_address,
            max_prefix_v4: within(raw.max_prefix_v4, |n| (8..=32).contains(n))
                .map_err(|span| at(span, "max-prefix-v4: 8 to 32 is possible"))?,
            max_prefix_v6: within(raw.max_prefix_v6, |n| (32..=128).contains(n))
                .map_err(|span| at(span, "max-prefix-v6: 32 to 128 is possible"))?,
            expires: expires.transpose()?,
            uses: raw.uses,
            hours: hours.transpose()?.unwrap_or_default(),
        };
        Ok(ClientFile { name: name.into(), id: ClientId(id), key, overrides })
    }

    /// Whether the key is a published test key.
    #[must_use]
    pub fn is_published(&self) -> bool {
        is_published(self.key.bytes())
    }

    /// The access entry: the defaults with what this file says instead.
    ///
    /// # Errors
    /// What cannot be: a service that the server does not have, a ttl beyond its maximum.
    pub fn access(
        &self,
        defaults: &PolicyDefaults,
        services: &[ServiceId],
    ) -> Result<Access, String> {
        let o = &self.overrides;
        let names = o.services.as_ref().unwrap_or(&defaults.services);
        let id = |name: &String| {
            let id = ServiceId(service_name(name));
            services
                .contains(&id)
                .then_some(id)
                .ok_or_else(|| format!("no service `{name}` in server.toml"))
        };
        let max_ttl = o.max_ttl.unwrap_or(defaults.max_ttl);
        let access = Access {
            client: self.id,
            name: self.name.clone(),
            assurance: Assurance::Sealed,
            services: names.iter().map(id).collect::<Result<_, String>>()?,
            ttl: o.ttl.unwrap_or_else(|| defaults.ttl.min(max_ttl)),
            max_ttl,
            max_leases: o.max_leases.unwrap_or(defaults.max_leases),
            sources: o.sources.clone(),
            source_address: o.source_address.unwrap_or(defaults.source_address),
            max_prefix_v4: o.max_prefix_v4.unwrap_or(defaults.max_prefix_v4),
            max_prefix_v6: o.max_prefix_v6.unwrap_or(defaults.max_prefix_v6),
            not_after: o.expires,
            uses: o.uses,
            hours: o.hours.clone(),
        };
        match access.ttl <= access.max_ttl {
            true => Ok(access),
            false => Err("ttl is longer than max-ttl".into()),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        let o = &self.overrides;
        let mut out = format!(
            "# opensesame-spa: one client of this server. Nobody else may read this.\nid = \"{}\"\nkey = \"",
            self.id
        );
        out.push_str(&self.key.to_text());
        out.push_str("\"\n");
        let list = |items: &[String]| {
            items.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", ")
        };
        if let Some(services) = &o.services {
            out.push_str(&format!("services = [{}]\n", list(services)));
        }
        if !o.sources.is_empty() {
            let texts: Vec<String> = o.sources.iter().map(Prefix::to_string).collect();
            out.push_str(&format!("sources = [{}]\n", list(&texts)));
        }
        if !o.hours.is_empty() {
            let texts: Vec<String> = o.hours.iter().map(Hours::to_string).collect();
            out.push_str(&format!("hours = [{}]\n", list(&texts)));
        }
        let seconds = |s: u32| format!("\"{}\"", Seconds(u64::from(s)));
        let lines = [
            ("ttl", o.ttl.map(seconds)),
            ("max-ttl", o.max_ttl.map(seconds)),
            ("max-leases", o.max_leases.map(|n| n.to_string())),
            ("source-address", o.source_address.map(|b| b.to_string())),
            ("max-prefix-v4", o.max_prefix_v4.map(|n| n.to_string())),
            ("max-prefix-v6", o.max_prefix_v6.map(|n| n.to_string())),
            ("expires", o.expires.map(|t| format!("\"{}\"", shown(t)))),
            ("uses", o.uses.map(|n| n.to_string())),
        ];
        for (key, value) in lines {
            if let Some(value) = value {
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
        zeroize::Zeroizing::new(out)
    }
}
