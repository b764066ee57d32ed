//! What people type: definitions here, each subcommand a few lines in a file of its own.

mod clients;
#[cfg(target_os = "linux")]
mod container;
mod control;
#[cfg(target_os = "linux")]
mod demo;
mod doctor;
mod init;
mod invite;
mod knock;
mod open;
mod say;
mod text;

use crate::daemon;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
#[cfg(target_os = "linux")]
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the server's file is, unless `--config` says otherwise.
const CONFIG: &str = "/etc/opensesame-spa/server.toml";

#[derive(Parser)]
#[command(name = "opensesame-spa", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Config {
    /// The server's configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG, value_hint = ValueHint::FilePath)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a server to let an address in: one datagram
    Open(open::Open),
    /// Ask a server to end your leases: one datagram
    Close(open::Close),
    /// Open, wait for the port, then join stdin and stdout to it: an ssh ProxyCommand
    Proxy(open::Proxy),
    /// Store a client file in your key directory
    Add {
        /// A file, a sesame:// link (others may see it on the command line), or - for stdin
        source: String,
    },
    /// Touch ports in their order (an older way in)
    Knock(knock::Knock),
    /// Send the plain key, or whatever text, as one datagram (an older way in)
    Say(say::Say),
    /// Write a working configuration and new keys
    Init(init::Init),
    /// Run the server in the foreground; logs go to stderr
    Serve {
        #[command(flatten)]
        config: Config,
        /// Read and check all files, say whether they are sound, and end
        #[arg(long)]
        check: bool,
        /// Load the closed state into the kernel and end: for boot
        #[arg(long, conflicts_with = "check")]
        shield_only: bool,
        /// Roll everything back unless `confirm` comes within this time, as 60s
        #[arg(long, value_name = "TIME", conflicts_with_all = ["check", "shield_only"],
            value_parser = wait_for_confirm)]
        confirm: Option<u32>,
        /// Say what would be dropped, and drop nothing
        #[arg(long, conflicts_with_all = ["check", "shield_only", "confirm"])]
        observe: bool,
    },
    /// Keep what `serve --confirm` would roll back
    Confirm(control::Running),
    /// Tell the running server to read its files again (the same as SIGHUP)
    Reload(control::Running),
    /// Remove our rules from the kernel, and nothing else: the ports are open again
    Uninstall {
        #[command(flatten)]
        config: Config,
    },
    /// Make a new client: its keys on the server, and the file or QR code to hand over
    Invite(invite::Invite),
    /// End a client's access and its leases at once; nobody else's
    Revoke {
        /// The client
        name: String,
        #[command(flatten)]
        config: Config,
    },
    /// List the clients
    Clients {
        #[command(flatten)]
        config: Config,
        /// Machine output
        #[arg(long)]
        json: bool,
    },
    /// Say how the running server is
    Status(control::Running),
    /// List what is open
    Leases(control::Running),
    /// End every lease on an address or within a prefix
    Evict {
        /// The address or prefix
        address: crate::access::Prefix,
        #[command(flatten)]
        running: control::Running,
    },
    /// List who is banned for asking the HTTP gate for what is not there
    Bans(control::Running),
    /// End the ban of an address, or all bans within a prefix
    Pardon {
        /// The address or prefix
        address: crate::access::Prefix,
        #[command(flatten)]
        running: control::Running,
    },
    /// Say what is wrong with this machine's set-up, and the mend for each; nothing is changed
    Doctor {
        #[command(flatten)]
        config: Config,
        /// Machine output
        #[arg(long)]
        json: bool,
    },
    /// Show it all on this machine, in namespaces of its own
    #[cfg(target_os = "linux")]
    Demo {
        /// The packet filter
        #[arg(long, default_value = "nftables", value_parser = ["nftables", "iptables"])]
        backend: String,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// One of the hosts of the demo
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    DemoHost {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<OsString>,
    },
    /// A service behind shut ports and the server, as the first process of a container
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Container(container::Container),
    /// The service of the container
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    ContainerService { port: u16 },
    /// The process that holds sockets and keys
    #[command(hide = true)]
    EngineProcess,
    /// The process that serves files to strangers
    #[command(hide = true)]
    GateProcess,
    /// The process that runs hooks
    #[command(hide = true)]
    HookProcess,
}

/// Runs what the command line says. Exit status: 0 done, 1 refused or failed, 2 usage.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Open(open) => open.run(),
        Command::Close(close) => close.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Add { source } => open::add(&source),
        Command::Knock(knock) => knock.run(),
        Command::Say(say) => say.run(),
        Command::Init(init) => init.run(),
        Command::Serve { config, shield_only: true, .. } => {
            daemon::shield_only(&config.config).map_err(|e| e.to_string())
        }
        Command::Serve { config, check, confirm, observe, shield_only: false } => {
            serve(&config.config, daemon::Options { check, confirm, observe })
        }
        Command::Confirm(running) => control::confirm(&running),
        Command::Reload(running) => control::reload(&running),
        Command::Uninstall { config } => {
            daemon::uninstall(&config.config).map_err(|e| e.to_string())
        }
        Command::Invite(invite) => invite.run(),
        Command::Revoke { name, config } => clients::revoke(&name, &config.config),
        Command::Clients { config, json } => clients::list(&config.config, json),
        Command::Status(running) => control::status(&running),
        Command::Leases(running) => control::leases(&running),
        Command::Evict { address, running } => control::evict(address, &running),
        Command::Bans(running) => control::bans(&running),
        Command::Pardon { address, running } => control::pardon(address, &running),
        Command::Doctor { config, json } => doctor::run(&config.config, json),
        #[cfg(target_os = "linux")]
        Command::Demo { backend } => demo::run(&backend).map_err(|e| e.to_string()),
        Command::Completions { shell } => text::completions(Cli::command(), shell),
        Command::Man { dir } => text::man(Cli::command(), &dir),
        #[cfg(target_os = "linux")]
        Command::DemoHost { name, argv } => demo::host(&name, &argv).map_err(|e| e.to_string()),
        #[cfg(target_os = "linux")]
        Command::Container(container) => container.run(),
        #[cfg(target_os = "linux")]
        Command::ContainerService { port } => container::service(port),
        Command::EngineProcess => return daemon::run_engine(),
        Command::GateProcess => return daemon::run_gate(),
        Command::HookProcess => return daemon::run_hook(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // One line that moves no cursor, whatever the reason holds.
            let mut line = String::from("error: ");
            for c in why.trim().chars() {
                match c {
                    '\n' => line.push(' '),
                    c if c.is_control() => line.extend(c.escape_default()),
                    c => line.push(c),
                }
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}

/// A time to confirm in: one in which a person can come in again.
fn wait_for_confirm(text: &str) -> Result<u32, String> {
    match daemon::config::duration(text)? {
        seconds @ 1..=3_600 => Ok(seconds),
        _ => Err("1s to 1h".into()),
    }
}

fn serve(config: &std::path::Path, options: daemon::Options) -> Result<(), String> {
    daemon::serve(config, &options).map_err(|e| e.to_string())?;
    if options.check {
        print("configuration OK\n")?;
    }
    Ok(())
}

/// Writes to stdout; a reader that is gone is an error, not a panic.
fn print(text: &str) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
