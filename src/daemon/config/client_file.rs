//! One client's file on the server: its keys, and where it differs from the policy's defaults.

use super::ConfigError;
use super::model::{MOST_HOURS, MOST_SERVICES, MOST_SOURCES, PolicyDefaults, is_name};
use super::secret::Text;
use super::value::{duration, moment, shown};
use crate::access::{Access, Assurance, ClientId, Hours, Prefix, ServiceId, Terms};
use crate::crypto::{ClientKey, KeyError, SecretText, hex, is_published, service_name};
use crate::time::{Seconds, Unix};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: Option<Spanned<String>>,
    id: Option<Spanned<String>>,
    key: Option<Spanned<Text>>,
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

impl Raw {
    fn read(path: &Path, text: &str) -> Result<Raw, ConfigError> {
        let wanted = "a client file, or has an unknown key or a wrong type here";
        toml::from_str(text).map_err(|e| ConfigError::of_secret(path, text, &e, wanted))
    }

    fn client(
        self,
        path: &Path,
        name: &str,
        text: &str,
        defaults: &Overrides,
    ) -> Result<ClientFile, ConfigError> {
        let at = |span: Range<usize>, what: &str| ConfigError::at(path, text, span.start, what);
        let id = self.id.as_ref().and_then(|id| hex(id.get_ref())).ok_or_else(|| {
            let span = self.id.as_ref().map(Spanned::span);
            at(span.unwrap_or_default(), "id: 16 hex digits are wanted")
        })?;
        let key = self.key.as_ref().map_or(Err(KeyError), |k| ClientKey::from_text(&k.get_ref().0));
        let key = key.map_err(|e| {
            let span = self.key.as_ref().map(Spanned::span);
            at(span.unwrap_or_default(), &format!("key: {e}"))
        })?;
        let overrides = self.overrides(path, text)?.or(defaults);
        Ok(ClientFile { name: name.into(), id: ClientId(id), key, overrides })
    }

    fn overrides(self, path: &Path, text: &str) -> Result<Overrides, ConfigError> {
        let at = |span: Range<usize>, what: &str| ConfigError::at(path, text, span.start, what);
        // What stands there is not repeated: it may be a key in the wrong place.
        let seconds = |value: Option<Spanned<String>>, wanted| match value {
            None => Ok(None),
            Some(t) => duration(t.get_ref()).map(Some).map_err(|_| at(t.span(), wanted)),
        };
        let expires = self.expires.map(|t| {
            moment(t.get_ref()).map_err(|_| at(t.span(), "expires: write \"2026-12-31T23:59:59Z\""))
        });
        let sources = self.sources.map(|list| {
            let networks: Option<Vec<Prefix>> =
                list.get_ref().iter().map(|t| t.parse().ok()).collect();
            networks
                .filter(|n| n.len() <= MOST_SOURCES)
                .ok_or_else(|| at(list.span(), "sources: at most 8, as \"192.0.2.0/24\""))
        });
        let hours = self.hours.map(|list| {
            let spans: Option<Vec<Hours>> = list.get_ref().iter().map(|t| t.parse().ok()).collect();
            spans.filter(|s| (1..=MOST_HOURS).contains(&s.len())).ok_or_else(|| {
                at(list.span(), "hours: one to 8, as \"mon-fri 08:00-18:00\" or \"22:00-02:00\"")
            })
        });
        let names = |list: &Vec<String>| {
            (1..=MOST_SERVICES).contains(&list.len()) && list.iter().all(|s| is_name(s))
        };
        let services = within(self.services, names)
            .map_err(|span| at(span, "services: one to 24 names of services"))?;
        Ok(Overrides {
            services,
            ttl: seconds(self.ttl, "ttl: write \"30s\", \"5m\" or \"2h\"")?,
            max_ttl: seconds(self.max_ttl, "max-ttl: write \"30s\", \"5m\" or \"2h\"")?,
            max_leases: within(self.max_leases, |n| *n > 0)
                .map_err(|span| at(span, "max-leases: 0 would never let anybody in"))?,
            sources: sources.transpose()?.unwrap_or_default(),
            source_address: self.source_address,
            max_prefix_v4: within(self.max_prefix_v4, |n| (8..=32).contains(n))
                .map_err(|span| at(span, "max-prefix-v4: 8 to 32 is possible"))?,
            max_prefix_v6: within(self.max_prefix_v6, |n| (32..=128).contains(n))
                .map_err(|span| at(span, "max-prefix-v6: 32 to 128 is possible"))?,
            expires: expires.transpose()?,
            uses: self.uses,
            hours: hours.transpose()?.unwrap_or_default(),
        })
    }
}

impl Overrides {
    /// Reads the head of a file of many clients: what counts for all of them.
    ///
    /// # Errors
    /// Line and column, never the text.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Overrides, ConfigError> {
        let raw = Raw::read(path, text)?;
        let spans = [
            raw.name.as_ref().map(Spanned::span),
            raw.id.as_ref().map(Spanned::span),
            raw.key.as_ref().map(Spanned::span),
        ];
        if let Some(span) = spans.into_iter().flatten().next() {
            let what = "name, id and key stand under a [[client]], or the file is one client's";
            return Err(ConfigError::at(path, text, span.start, what));
        }
        raw.overrides(path, text)
    }

    /// What this says, and where it says nothing, what that says.
    fn or(self, other: &Overrides) -> Overrides {
        let list = |own: bool| own.then_some(other);
        let (sources, hours) = (list(self.sources.is_empty()), list(self.hours.is_empty()));
        Overrides {
            services: self.services.or_else(|| other.services.clone()),
            ttl: self.ttl.or(other.ttl),
            max_ttl: self.max_ttl.or(other.max_ttl),
            max_leases: self.max_leases.or(other.max_leases),
            sources: sources.map_or(self.sources, |other| other.sources.clone()),
            source_address: self.source_address.or(other.source_address),
            max_prefix_v4: self.max_prefix_v4.or(other.max_prefix_v4),
            max_prefix_v6: self.max_prefix_v6.or(other.max_prefix_v6),
            expires: self.expires.or(other.expires),
            uses: self.uses.or(other.uses),
            hours: hours.map_or(self.hours, |other| other.hours.clone()),
        }
    }
}

impl ClientFile {
    /// Reads the text of a file of one client.
    ///
    /// # Errors
    /// Line and column, never the text.
    pub fn parse(path: &Path, name: &str, text: &str) -> Result<ClientFile, ConfigError> {
        if !is_name(name) {
            let what = "the file's name is no client name: use letters, digits, . - _ @";
            return Err(ConfigError::new(path, what));
        }
        let raw = Raw::read(path, text)?;
        if let Some(said) = &raw.name {
            let what = "name: the file's name is the client's; more than one stand in [[client]]";
            return Err(ConfigError::at(path, text, said.span().start, what));
        }
        raw.client(path, name, text, &Overrides::default())
    }

    /// Reads what stands under one `[[client]]`; `defaults`: what the head of its file says.
    ///
    /// # Errors
    /// Line and column, never the text.
    pub(super) fn parse_entry(
        path: &Path,
        text: &str,
        defaults: &Overrides,
    ) -> Result<ClientFile, ConfigError> {
        let raw = Raw::read(path, text)?;
        let at = |byte, what| ConfigError::at(path, text, byte, what);
        let name = raw.name.as_ref().ok_or_else(|| at(0, "name: each [[client]] has one"))?;
        if !is_name(name.get_ref()) {
            let what = "name: letters, digits, . - _ @, at most 64, no sign first";
            return Err(at(name.span().start, what));
        }
        let name = name.get_ref().clone();
        raw.client(path, &name, text, defaults)
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
        let access = Access::new(
            self.id,
            &self.name,
            Terms {
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
            },
        );
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
