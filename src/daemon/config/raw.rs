//! `server.toml` as serde reads it: names, types and defaults, nothing checked across fields.

use super::model::{Backend, CONTROL};
use super::value::duration;
use crate::access::{Ports, Prefix, Protocol};
use crate::engine::Step;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Spanned;

/// A duration, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) u32);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
        duration(&String::deserialize(d)?).map(Span).map_err(de::Error::custom)
    }
}

/// A value that the file does not hold has no place in it.
pub(super) fn unsaid<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn ports<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Ports>, D::Error> {
    let list = Vec::<String>::deserialize(d)?;
    let parse = |t: &String| t.parse().map_err(|e| de::Error::custom(format!("`{t}`: {e}")));
    list.iter().map(parse).collect()
}

fn spanned_ports<'de, D: Deserializer<'de>>(d: D) -> Result<Spanned<Vec<Ports>>, D::Error> {
    let list = Spanned::<Vec<Spanned<String>>>::deserialize(d)?;
    let span = list.span();
    let parse = |t: &Spanned<String>| {
        let text = t.get_ref();
        text.parse().map_err(|e| de::Error::custom(format!("`{text}`: {e}")))
    };
    let ports = list.get_ref().iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Spanned::new(span, ports))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) server: RawServer,
    pub(super) firewall: RawFirewall,
    #[serde(default)]
    pub(super) listen: Vec<Spanned<RawListen>>,
    #[serde(default)]
    pub(super) service: BTreeMap<Spanned<String>, RawService>,
    pub(super) plain: Option<RawPlain>,
    pub(super) http_gate: Option<super::gate::RawGate>,
    #[serde(default)]
    pub(super) hook: super::hook::RawHook,
    #[serde(default)]
    pub(super) knock: RawKnocks,
    #[serde(default)]
    pub(super) policy: RawPolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawServer {
    pub(super) state_dir: Spanned<PathBuf>,
    pub(super) control: Spanned<PathBuf>,
    pub(super) user: String,
    pub(super) public: Option<String>,
    pub(super) allow_test_keys: bool,
}

impl Default for RawServer {
    fn default() -> RawServer {
        RawServer {
            state_dir: unsaid("/var/lib/opensesame-spa".into()),
            control: unsaid(CONTROL.into()),
            user: "_opensesame".into(),
            public: None,
            allow_test_keys: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawFirewall {
    pub(super) backend: Backend,
    #[serde(default)]
    pub(super) mode: RawMode,
    pub(super) pinhole: Option<Spanned<RawPinhole>>,
    #[serde(default)]
    pub(super) trust: Vec<RawInterface>,
}

/// Where the machine's own rules admit.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPinhole {
    pub(super) mark: Option<u32>,
    pub(super) table: Option<String>,
    pub(super) chain: Option<String>,
}

/// The name of a network interface (Linux `IFNAMSIZ`).
pub(super) struct RawInterface(pub(super) String);

impl<'de> Deserialize<'de> for RawInterface {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RawInterface, D::Error> {
        let text = String::deserialize(d)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        match (1..=15).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(RawInterface(text)),
            false => Err(de::Error::custom(format!("`{text}` is no name of an interface"))),
        }
    }
}

/// An address or a network.
pub(super) struct RawPrefix(pub(super) Prefix);

impl<'de> Deserialize<'de> for RawPrefix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RawPrefix, D::Error> {
        let text = String::deserialize(d)?;
        let parsed = text.parse().map(RawPrefix);
        parsed.map_err(|e| de::Error::custom(format!("`{text}`: {e}")))
    }
}

/// `"10.0.0.5:22"`, or one of each family in a list.
pub(super) struct RawForward(pub(super) Vec<SocketAddr>);

impl<'de> Deserialize<'de> for RawForward {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RawForward, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }
        let list = match OneOrMore::deserialize(d)? {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(list) => list,
        };
        let parse = |text: &String| {
            text.parse().map_err(|_| de::Error::custom(format!("`{text}` is no ADDR:PORT")))
        };
        Ok(RawForward(list.iter().map(parse).collect::<Result<_, _>>()?))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawMode {
    #[default]
    Shield,
    Pinhole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawListen {
    pub(super) udp: Option<Spanned<String>>,
    pub(super) capture: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) mode: RawListenMode,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawListenMode {
    #[default]
    Spa,
    Plain,
    Knock,
}

fn open_sesame() -> Spanned<String> {
    unsaid("open_sesame".into())
}

fn close_sesame() -> Spanned<String> {
    unsaid("close_sesame".into())
}

fn half_a_minute() -> Spanned<Span> {
    unsaid(Span(30))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPlain {
    #[serde(default = "open_sesame")]
    pub(super) open: Spanned<String>,
    #[serde(default = "close_sesame")]
    pub(super) close: Spanned<String>,
    #[serde(deserialize_with = "spanned_ports")]
    pub(super) opens: Spanned<Vec<Ports>>,
    #[serde(default = "half_a_minute")]
    pub(super) ttl: Spanned<Span>,
    #[serde(default)]
    pub(super) replies: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawOnExpiry {
    #[default]
    Keep,
    Cut,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawRefuse {
    #[default]
    Drop,
    Reset,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawAssurance {
    Knock,
    PlainKey,
    TimedKnock,
    Fwknop,
    Sealed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawService {
    #[serde(deserialize_with = "ports")]
    pub(super) ports: Vec<Ports>,
    #[serde(default)]
    pub(super) on_expiry: RawOnExpiry,
    pub(super) while_connected: Option<Spanned<Span>>,
    pub(super) hosts: Option<Spanned<Vec<RawPrefix>>>,
    pub(super) forward: Option<Spanned<RawForward>>,
    #[serde(default)]
    pub(super) refuse: RawRefuse,
    pub(super) require: Option<RawAssurance>,
    pub(super) on_open: Option<super::hook::RawCommand>,
    pub(super) on_close: Option<super::hook::RawCommand>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawPolicy {
    pub(super) services: Spanned<Vec<Spanned<String>>>,
    pub(super) ttl: Spanned<Span>,
    pub(super) max_ttl: Spanned<Span>,
    pub(super) max_leases: Spanned<u16>,
    pub(super) max_prefix_v4: Spanned<u8>,
    pub(super) max_prefix_v6: Spanned<u8>,
    pub(super) source_address: bool,
    pub(super) max_age: Spanned<Span>,
    pub(super) max_future: Spanned<Span>,
}

impl Default for RawPolicy {
    fn default() -> RawPolicy {
        RawPolicy {
            services: unsaid(vec![]),
            ttl: unsaid(Span(30)),
            max_ttl: unsaid(Span(8 * 3_600)),
            max_leases: unsaid(16),
            max_prefix_v4: unsaid(32),
            max_prefix_v6: unsaid(128),
            source_address: true,
            max_age: unsaid(Span(60)),
            max_future: unsaid(Span(60)),
        }
    }
}

/// `[knock]` or any number of `[[knock]]`.
#[derive(Default)]
pub(super) struct RawKnocks(pub(super) Vec<RawKnock>);

impl<'de> Deserialize<'de> for RawKnocks {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RawKnocks, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawKnocks;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("[knock] or [[knock]]")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawKnocks, A::Error> {
                let one = RawKnock::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawKnocks(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<RawKnocks, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(RawKnocks(all))
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawKnock {
    pub(super) label: Option<Spanned<String>>,
    pub(super) sequence: Option<Spanned<Vec<RawStep>>>,
    pub(super) one_time: Option<Spanned<PathBuf>>,
    pub(super) secret: Option<Spanned<PathBuf>>,
    pub(super) close: Option<Spanned<Vec<RawStep>>>,
    #[serde(default = "ten_seconds")]
    pub(super) window: Spanned<Span>,
    pub(super) total: Option<Spanned<Span>>,
    #[serde(deserialize_with = "spanned_ports")]
    pub(super) opens: Spanned<Vec<Ports>>,
    #[serde(default = "half_a_minute")]
    pub(super) ttl: Spanned<Span>,
}

fn ten_seconds() -> Spanned<Span> {
    unsaid(Span(10))
}

/// `1560`, or `"tcp/7000"`.
#[derive(Clone, Copy)]
pub(super) struct RawStep(pub(super) Step);

impl std::str::FromStr for RawStep {
    type Err = String;

    fn from_str(text: &str) -> Result<RawStep, String> {
        let number = text.parse::<u16>().ok().filter(|port| *port != 0);
        if let Some(port) = number {
            return Ok(RawStep(Step { protocol: Protocol::Udp, port }));
        }
        let ports: Ports = text.parse().map_err(|e| format!("`{text}`: {e}"))?;
        if ports.first() != ports.last() {
            return Err(format!("`{text}`: one port is wanted, no range"));
        }
        Ok(RawStep(Step { protocol: ports.protocol(), port: ports.first() }))
    }
}

impl<'de> Deserialize<'de> for RawStep {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RawStep, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RawStep;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a UDP port as 1560, or a port as \"tcp/7000\"")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawStep, E> {
                let port = u16::try_from(number).ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| E::custom(format!("{number} is no port")))?;
                Ok(RawStep(Step { protocol: Protocol::Udp, port }))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawStep, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}
