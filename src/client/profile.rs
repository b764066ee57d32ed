//! What a client knows of its server: a file, or the same as a `sesame://` link.
//!
//! The link is `sesame://NAME@HOST:PORT/#` and base64url of server id (16), client id (8), client
//! key (32) and door key (32).

use crate::access::ClientId;
use crate::access::Ports;
use crate::crypto::{ClientKey, DoorKey, SecretText, ServerId, hex, hex_of};
use serde::Deserialize;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use zeroize::Zeroizing;

/// A text that is no client file and no link; never says what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileError {
    /// Line and column, from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What is wanted.
    pub what: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for ProfileError {}

/// One client's knowledge of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The client's name at the server.
    pub name: String,
    /// Where the server listens, `HOST:PORT`, if it was said.
    pub host: Option<String>,
    /// The ports that the server protects for this client: where `--wait` looks. Only in files.
    pub ports: Vec<Ports>,
    /// The server's id.
    pub server: ServerId,
    /// The key of all clients.
    pub door: DoorKey,
    /// The client's id.
    pub id: ClientId,
    /// The client's key.
    pub key: ClientKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    server: RawServer,
    client: RawClient,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawServer {
    host: Option<String>,
    ports: Option<Spanned<Vec<String>>>,
    id: Spanned<String>,
    door: Spanned<Secret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawClient {
    name: String,
    id: Spanned<String>,
    key: Spanned<Secret>,
}

#[derive(Deserialize)]
#[serde(from = "String")]
struct Secret(SecretText);

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }
}

/// Whether a name or a host can stand in a link and between quotes: printed ASCII characters but
/// the few that would end it.
fn is_plain(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'/' | b'#');
    !text.is_empty() && text.bytes().all(good)
}

impl Profile {
    /// Reads a client file's text, or a link.
    ///
    /// # Errors
    /// Where it is wrong, never what stands there.
    pub fn parse(text: &str) -> Result<Profile, ProfileError> {
        let profile = match text.trim_start().strip_prefix("sesame://") {
            Some(rest) => Profile::of_link(rest.trim_end()),
            None => Profile::of_file(text),
        }?;
        let host = profile.host.as_deref();
        match is_plain(&profile.name) && host.is_none_or(|h| is_plain(h) && !h.contains('@')) {
            true => Ok(profile),
            false => Err(ProfileError {
                at: None,
                what: "a name or a host of printed characters without \" \\ / # is wanted".into(),
            }),
        }
    }

    fn of_file(text: &str) -> Result<Profile, ProfileError> {
        let wrong = |span: Option<Range<usize>>, what: &str| {
            let at = span.map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                (before.matches('\n').count() + 1, column)
            });
            ProfileError { at, what: what.into() }
        };
        let raw: Raw = toml::from_str(text)
            .map_err(|e| wrong(e.span(), "this is not a client file as `invite` writes it"))?;
        let key = |secret: &Spanned<Secret>, what| {
            ClientKey::from_text(&secret.get_ref().0).map_err(|_| wrong(Some(secret.span()), what))
        };
        let (server, client) = (raw.server.id, raw.client.id);
        let ports = raw.server.ports.map(|list| {
            let ports: Option<Vec<Ports>> = list.get_ref().iter().map(|t| t.parse().ok()).collect();
            ports.ok_or_else(|| wrong(Some(list.span()), "[server] ports: write \"tcp/22\""))
        });
        Ok(Profile {
            name: raw.client.name,
            host: raw.server.host,
            ports: ports.transpose()?.unwrap_or_default(),
            server: ServerId(
                hex(server.get_ref())
                    .ok_or_else(|| wrong(Some(server.span()), "[server] id: 32 hex digits"))?,
            ),
            door: DoorKey::new(
                *key(&raw.server.door, "[server] door: 32 bytes in base64")?.bytes(),
            ),
            id: ClientId(
                hex(client.get_ref())
                    .ok_or_else(|| wrong(Some(client.span()), "[client] id: 16 hex digits"))?,
            ),
            key: key(&raw.client.key, "[client] key: 32 bytes in base64")?,
        })
    }

    fn of_link(rest: &str) -> Result<Profile, ProfileError> {
        let wrong = || ProfileError { at: None, what: "this is not a whole sesame:// link".into() };
        let (place, secret) = rest.split_once("/#").ok_or_else(wrong)?;
        let (name, host) = place.rsplit_once('@').ok_or_else(wrong)?;
        let bytes = crate::crypto::from_url_text(secret).ok_or_else(wrong)?;
        let bytes: &[u8; 88] = bytes.as_slice().try_into().map_err(|_| wrong())?;
        let part = |range: std::ops::Range<usize>| &bytes[range];
        let key = |range| part(range).try_into().map_err(|_| wrong());
        Ok(Profile {
            name: name.into(),
            host: (!host.is_empty()).then(|| host.into()),
            ports: Vec::new(),
            server: ServerId(part(0..16).try_into().map_err(|_| wrong())?),
            id: ClientId(part(16..24).try_into().map_err(|_| wrong())?),
            key: ClientKey::new(key(24..56)?),
            door: DoorKey::new(key(56..88)?),
        })
    }

    /// The text of the client's file.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        let host = self.host.as_ref().map(|h| format!("host = \"{h}\"\n")).unwrap_or_default();
        let list: Vec<String> = self.ports.iter().map(|p| format!("\"{p}\"")).collect();
        let ports = match list.is_empty() {
            true => String::new(),
            false => format!("ports = [{}]\n", list.join(", ")),
        };
        let mut out = format!(
            "# opensesame-spa: {}'s key. Whoever has it can open the door: keep it to yourself.\n\
             [server]\n{host}{ports}id = \"{}\"\ndoor = \"",
            self.name,
            hex_of(&self.server.0),
        );
        out.reserve(256);
        out.push_str(&self.door.to_text());
        out.push_str(&format!(
            "\"\n\n[client]\nname = \"{}\"\nid = \"{}\"\nkey = \"",
            self.name, self.id
        ));
        out.push_str(&self.key.to_text());
        out.push_str("\"\n");
        Zeroizing::new(out)
    }

    /// The same as a link, for a QR code.
    #[must_use]
    pub fn to_link(&self) -> SecretText {
        let mut bytes = Zeroizing::new(Vec::with_capacity(88));
        bytes.extend_from_slice(&self.server.0);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(self.key.bytes());
        bytes.extend_from_slice(self.door.bytes());
        let secret = crate::crypto::to_url_text(&bytes);
        let host = self.host.as_deref().unwrap_or_default();
        Zeroizing::new(format!("sesame://{}@{host}/#{}", self.name, *secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            name: "alice".into(),
            host: Some("[2001:db8::1]:41841".into()),
            ports: vec![],
            server: ServerId([1; 16]),
            door: DoorKey::generate().unwrap(),
            id: ClientId([2; 8]),
            key: ClientKey::generate().unwrap(),
        }
    }

    #[test]
    fn file_and_link_say_the_same() {
        let p = profile();
        assert_eq!(Profile::parse(&p.to_text()), Ok(p.clone()));
        assert_eq!(Profile::parse(&p.to_link()), Ok(p));
    }

    #[test]
    fn an_error_names_the_place_and_not_the_text() {
        let p = profile();
        let text = p.to_text().replace("key = \"", "key = \"\"");
        let why = Profile::parse(&text).unwrap_err();
        assert_eq!(why.at.map(|(line, _)| line), Some(10));
        let secret = p.key.to_text();
        assert!(!why.to_string().contains(&secret[..8]), "{why}");
        let cut = &p.to_link()[..100];
        assert!(!Profile::parse(cut).unwrap_err().to_string().contains(&cut[80..]));
    }
}
