//! Files that an administrator or a user has written.

use opensesame_spa::access::{ClientId, Ports, Protocol, Refuse, Service, ServiceId};
use opensesame_spa::client::Profile;
use opensesame_spa::daemon::config::{ClientFile, ClientText, Config, Found, Overrides, Rest};
use std::path::Path;

/// The text of a `server.toml`.
///
/// # Panics
/// When the ports to protect are not exactly those of the services, each once.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = match Config::parse(Path::new("server.toml"), text) {
        Ok(config) => config,
        Err(why) => {
            assert!(!why.to_string().contains('\n'), "an error is one line: {why}");
            return;
        }
    };
    let shield = config.shield();
    for pair in shield.protected.windows(2) {
        let [(a, _), (b, _)] = pair else { continue };
        assert!(!a.overlaps(b), "{a} and {b} overlap");
    }
    let all: Vec<(&Service, Ports)> =
        config.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, *p))).collect();
    let covers = |p: &Ports, q: &Ports| p.contains(q);
    for (service, ports) in &all {
        let found = shield.protected.iter().find(|(p, _)| covers(p, ports));
        let (_, refuse) = found.unwrap_or_else(|| panic!("{ports} is open to everybody"));
        assert!(*refuse == Refuse::Drop || service.refuse == Refuse::Reset, "{ports} answers");
    }
    // Nothing else is shut: every protected port is some service's.
    for (range, _) in &shield.protected {
        let mut next = u32::from(range.first());
        while next <= u32::from(range.last()) {
            let port = single(range.protocol(), next);
            let end = all.iter().filter(|(_, p)| covers(p, &port)).map(|(_, p)| p.last()).max();
            next = u32::from(end.unwrap_or_else(|| panic!("{port} is nobody's"))) + 1;
        }
    }
    assert!(shield.listening.is_sorted() && shield.listening.iter().all(|p| *p != 0));
    let p = &config.policy;
    assert!(p.ttl <= p.max_ttl && p.max_leases > 0);
    // A client that says nothing of its own can be made of the defaults.
    let plain = format!("id = \"{}\"\nkey = \"{}\"\n", "30".repeat(8), "A".repeat(43) + "=");
    let file = ClientFile::parse(Path::new("c.toml"), "c", &plain).expect("a plain client");
    let ids: Vec<ServiceId> = config.services.iter().map(|s| s.id).collect();
    file.access(p, &ids).expect("the defaults are possible");
}

fn single(protocol: Protocol, port: u32) -> Ports {
    let port = u16::try_from(port).expect("it lies in a range");
    Ports::new(protocol, port, port).expect("it lies in a range")
}

/// The text of a client's file, on the server's side and on the client's, or a link.
///
/// # Panics
/// When an error shows a piece of a key, or a file that was read is written as another one.
pub fn client_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("c.toml");
    match ClientFile::parse(path, "c", text) {
        Ok(file) => {
            let again = ClientFile::parse(path, "c", &file.to_text());
            let again = again.unwrap_or_else(|why| panic!("it does not read its own text: {why}"));
            assert_eq!((again.id, again.key), (file.id, file.key));
            assert_eq!(again.overrides, file.overrides);
        }
        Err(why) => {
            let other = |text: &str| ClientFile::parse(path, "c", text).map_err(|e| e.to_string());
            keeps_silent(text, &why.to_string(), |t| other(t).err());
        }
    }
    many(path, text);
    match Profile::parse(text) {
        Ok(profile) => {
            assert_eq!(Profile::parse(&profile.to_text()).as_ref(), Ok(&profile), "the file");
            let link = Profile::parse(&profile.to_link());
            assert_eq!(link, Ok(Profile { ports: vec![], ..profile }), "the link");
        }
        Err(why) => {
            let other = |text: &str| Profile::parse(text).err().map(|e| e.to_string());
            keeps_silent(text, &why.to_string(), other);
        }
    }
}

/// The same text as a file of many: each client that is taken out is gone, and the others are as
/// they were.
///
/// # Panics
/// When that is not so, or an error shows a piece of a key.
fn many(path: &Path, text: &str) {
    type Said = (Option<String>, Result<(ClientId, Overrides), String>);
    let read = |text: &str| -> Result<Vec<Said>, String> {
        let file = ClientText::new(path, text.to_string().into()).map_err(|e| e.to_string())?;
        let said = |found: Found| {
            let client = found.client.map(|c| (c.id, c.overrides));
            (found.name, client.map_err(|e| e.to_string()))
        };
        let all = file.clients().map_err(|e| e.to_string())?.map(said);
        Ok(all.collect())
    };
    let all = match read(text) {
        Ok(all) => all,
        Err(why) => return keeps_silent(text, &why, |t| read(t).err()),
    };
    for (n, (name, client)) in all.iter().enumerate().take(3) {
        if let Err(why) = client {
            let other = |t: &str| read(t).ok()?.into_iter().nth(n)?.1.err();
            keeps_silent(text, why, other);
        }
        let Some(name) = name else { continue };
        let file = ClientText::new(path, text.to_string().into()).expect("it was read before");
        let mut others = all.clone();
        others.retain(|(other, _)| other.as_ref() != Some(name));
        // One who cannot be told from another one is not taken out.
        let Ok(rest) = file.without(name) else { continue };
        match rest.expect("it is in it") {
            Rest::Nothing => assert_eq!(others.len(), 0, "others are gone with {name}"),
            Rest::Text(rest) => {
                let left = read(&rest).unwrap_or_default();
                let sound = |all: &[Said]| -> Vec<Said> {
                    all.iter().filter(|(_, client)| client.is_ok()).cloned().collect()
                };
                assert_eq!(sound(&left), sound(&others), "without {name}");
            }
        }
    }
}

/// No 8 characters of a key stand in the error, unless they stand there whatever the key is.
///
/// # Panics
/// When they do.
pub fn keeps_silent(text: &str, error: &str, other: impl Fn(&str) -> Option<String>) {
    let values: Vec<&str> = text.lines().filter_map(secret).collect();
    let runs = |value: &&str| {
        let is_key =
            |w: &&[u8]| w.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(b));
        let runs = value.as_bytes().windows(8).filter(is_key);
        runs.filter_map(|w| std::str::from_utf8(w).ok().map(String::from)).collect::<Vec<_>>()
    };
    let shown: Vec<String> =
        values.iter().flat_map(runs).filter(|run| error.contains(run.as_str())).collect();
    if shown.is_empty() {
        return;
    }
    let mut masked = String::from(text);
    for value in &values {
        let blank = |c: char| if c.is_ascii_alphanumeric() { 'A' } else { c };
        masked = masked.replace(value, &value.chars().map(blank).collect::<String>());
    }
    let without = other(&masked).unwrap_or_default();
    for run in shown {
        assert!(without.contains(&run), "`{error}` shows `{run}` of a key");
    }
}

/// What stands as a key on this line, or in this link.
fn secret(line: &str) -> Option<&str> {
    let value = match line.trim_start().split_once("/#") {
        Some((place, value)) if place.starts_with("sesame://") => value,
        Some(_) | None => {
            let (name, value) = line.split_once('=')?;
            let _ = ["key", "door"].into_iter().find(|n| *n == name.trim())?;
            value.trim().trim_matches(|c| matches!(c, '"' | '\'' | '[' | ']'))
        }
    };
    (value.len() >= 8).then_some(value)
}
