//! `confirm`, `reload`, `status`, `leases`, `evict`, `bans`, `pardon`: questions and orders to the running server.

use super::{Config as ConfigArg, print};
use crate::access::Prefix;
use crate::daemon::config::Config;
use crate::daemon::control::{Order, ask};
use clap::{Args, ValueHint};
use serde_json::Value;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Running {
    #[command(flatten)]
    config: ConfigArg,
    /// The server's control socket, instead of what its configuration says
    #[arg(long, value_name = "SOCKET", conflicts_with = "config", value_hint = ValueHint::FilePath)]
    control: Option<PathBuf>,
    /// Machine output
    #[arg(long)]
    json: bool,
}

impl Running {
    fn ask(&self, order: &Order) -> Result<Value, String> {
        let path = match &self.control {
            Some(path) => path.clone(),
            None => Config::load(&self.config.config).map_err(|e| e.to_string())?.server.control,
        };
        let answer = ask(&path, order)
            .map_err(|e| format!("no server answers at {}: {e}", path.display()))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(why) => Err(why.into()),
            None => Ok(answer),
        }
    }
}

pub(super) fn confirm(running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Confirm)?;
    match (running.json, answer["confirmed"].as_bool()) {
        (true, _) => print(&format!("{answer}\n")),
        (false, Some(true)) => print("confirmed: it stays\n"),
        (false, _) => print("nothing waits to be confirmed\n"),
    }
}

pub(super) fn reload(running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Reload)?;
    match running.json {
        true => print(&format!("{answer}\n")),
        false => print(&format!("reloaded: {} clients\n", answer["clients"])),
    }
}

pub(super) fn evict(address: Prefix, running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Evict(address))?;
    match running.json {
        true => print(&format!("{answer}\n")),
        false => {
            print(&format!("evicted {address}: {} clients had leases there\n", answer["ended"]))
        }
    }
}

pub(super) fn status(running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Status)?;
    if running.json {
        return print(&format!("{answer}\n"));
    }
    let yes = |key: &str| answer[key].as_bool().unwrap_or(false);
    let state = match (yes("ready"), yes("healthy")) {
        (true, true) => "ready",
        (true, false) => "the firewall is NOT in step: see the log",
        (false, _) => "[engine] is NOT running: nothing opens, see the log",
    };
    let mut out = format!("state     {state}\n");
    out.push_str(&format!("firewall  {}\n", answer["firewall"].as_str().unwrap_or("?")));
    out.push_str(&format!("clients   {}\nleases    {}\n", answer["clients"], answer["leases"]));
    out.push_str(&format!("accepted  {}\n", answer["accepted"]));
    if let Some(bans) = answer["bans"].as_u64() {
        let (strikes, ended) = (&answer["strikes"], &answer["pardons"]);
        out.push_str(&format!("bans      {bans}, {strikes} strikes, {ended} pardons\n"));
    }
    if let Some(refused) = answer["refused"].as_object() {
        let some = refused.iter().filter(|(_, n)| n.as_u64() != Some(0));
        let list: Vec<String> = some.map(|(name, n)| format!("{name} {n}")).collect();
        let list = if list.is_empty() { "none".into() } else { list.join(", ") };
        out.push_str(&format!("refused   {list}\n"));
    }
    print(&out)
}

pub(super) fn leases(running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Leases)?;
    if running.json {
        return print(&format!("{answer}\n"));
    }
    let mut out = format!(
        "{:<20} {:<16} {:<40} {:<16} {}\n",
        "CLIENT", "SERVICE", "ADDRESS", "PORTS", "LEFT"
    );
    for lease in answer.as_array().into_iter().flatten() {
        let text = |key: &str| lease[key].as_str().unwrap_or("?").to_string();
        out.push_str(&format!(
            "{:<20} {:<16} {:<40} {:<16} {}s\n",
            text("client"),
            text("service"),
            text("address"),
            text("ports"),
            lease["seconds"]
        ));
    }
    print(&out)
}

pub(super) fn bans(running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Bans)?;
    if running.json {
        return print(&format!("{answer}\n"));
    }
    let mut out = format!("{:<44} {:<22} {:<6} {}\n", "ADDRESS", "UNTIL", "TIMES", "LEFT");
    for ban in answer.as_array().into_iter().flatten() {
        let text = |key: &str| ban[key].as_str().unwrap_or("?").to_string();
        let (times, left) = (ban["times"].to_string(), &ban["seconds"]);
        out.push_str(&format!(
            "{:<44} {:<22} {times:<6} {left}s\n",
            text("address"),
            text("until"),
        ));
    }
    print(&out)
}

pub(super) fn pardon(address: Prefix, running: &Running) -> Result<(), String> {
    let answer = running.ask(&Order::Pardon(address))?;
    match running.json {
        true => print(&format!("{answer}\n")),
        false => print(&format!("pardoned {address}: {} bans ended\n", answer["ended"])),
    }
}
