//! `clients` and `revoke`.

use super::print;
use crate::daemon::clients::{all, take_out};
use crate::daemon::config::{Config, is_name, shown};
use crate::daemon::control::{Order, ask};
use serde_json::json;
use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::path::Path;

/// Lists the clients, never a key.
pub(super) fn list(config: &Path, json: bool) -> Result<(), String> {
    let config = Config::load(config).map_err(|e| e.to_string())?;
    let mut rows = Vec::new();
    for found in all(&config).map_err(|e| e.to_string())? {
        let name = found.name;
        let row = match found.client {
            Ok(file) => {
                let o = &file.overrides;
                let services = o.services.as_ref().unwrap_or(&config.policy.services).join(",");
                json!({
                    "name": name,
                    "id": file.id.to_string(),
                    "services": services,
                    "expires": o.expires.map(shown),
                    "uses": o.uses,
                })
            }
            Err(why) => json!({ "name": name, "error": why.to_string() }),
        };
        rows.push(row);
    }
    if json {
        return print(&format!("{}\n", serde_json::Value::Array(rows)));
    }
    let mut out = format!("{:<24} {:<16} {:<24} {}\n", "NAME", "ID", "EXPIRES", "SERVICES");
    for row in &rows {
        let text = |key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_string();
        let line = match row.get("error").and_then(|e| e.as_str()) {
            Some(why) => format!("{:<24} {why}\n", text("name")),
            None => format!(
                "{:<24} {:<16} {:<24} {}\n",
                text("name"),
                text("id"),
                text("expires"),
                text("services")
            ),
        };
        out.push_str(&line);
    }
    print(&out)
}

/// Takes a client out of the files and has the running server act on it.
pub(super) fn revoke(name: &str, config: &Path) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("`{name}` is no client's name"));
    }
    let loaded = Config::load(config).map_err(|e| e.to_string());
    if !config.exists() {
        return loaded.map(|_| ());
    }
    // A mistake in server.toml must not keep anybody from being revoked.
    let taken = take_out(&config.with_file_name("clients"), name).map_err(|why| {
        format!("{name} may still be in a file, so mend it and say this again: {why}")
    })?;
    let left: Vec<String> = taken.failed.iter().map(ToString::to_string).collect();
    let left = (!left.is_empty()).then(|| {
        let files = left.join("; ");
        format!("{name} may still be in what could not be looked through, so mend it and say this again: {files}")
    });
    let removed = match taken.found {
        true => format!("{name} is removed"),
        false => format!("no client `{name}`: `opensesame-spa clients` lists them"),
    };
    let said = |what: &str| match &left {
        Some(left) => Err(format!("{removed}; {what}; {left}")),
        None if taken.found => print(&format!("revoked {name}: {what}\n")),
        None => Err(removed.clone()),
    };
    // Whatever was found: the server may know one who is in no file any more.
    let config = loaded.map_err(|why| {
        format!("{removed}, but whether a server runs here cannot be known: {why}")
    })?;
    let wrong = |why: &str| {
        let left = left.iter().map(|left| format!("; {left}")).collect::<String>();
        Err(format!("{removed}, but {why}{left}"))
    };
    match ask(&config.server.control, &Order::Revoke(name.into())) {
        Ok(answer) => match (answer.get("error").and_then(|e| e.as_str()), answer.get("known")) {
            (Some(why), _) => wrong(&format!("the server did not take it over: {why}")),
            (None, Some(serde_json::Value::Bool(false))) => said("its leases have ended"),
            (None, _) => {
                wrong("the server still knows it: its log says why, or server.toml has it")
            }
        },
        Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => {
            said("no server is running here")
        }
        Err(e) => wrong(&format!("the server did not answer: {e}")),
    }
}
