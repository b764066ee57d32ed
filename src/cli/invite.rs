//! `invite`: a new client.

use super::{Config as ConfigArg, print};
use crate::access::{ClientId, Ports};
use crate::client::{Profile, Target};
use crate::crypto::{ClientKey, random};
use crate::daemon::clients::{all, lock};
use crate::daemon::clock;
use crate::daemon::config::{
    ClientFile, Config, Overrides, ServerKey, duration, is_door, is_name, write_new,
};
use clap::{Args, ValueHint};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Invite {
    /// The client's name: letters, digits, . - _ @
    name: String,
    #[command(flatten)]
    config: ConfigArg,
    /// A service that this client may open; may be repeated; else the policy's
    #[arg(long, value_name = "NAME", conflicts_with = "again")]
    service: Vec<String>,
    /// How long a lease lasts if the client does not say
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "again")]
    ttl: Option<u32>,
    /// When the credential ends, from now
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "again")]
    expires: Option<u32>,
    /// How many opens the credential is good for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "again")]
    uses: Option<u32>,
    /// Hand out an existing client's file once more
    #[arg(long)]
    again: bool,
    /// Where the client's file goes; - for stdout; else NAME.toml here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Show the invitation as a QR code instead of writing a file
    #[arg(long, conflicts_with = "out")]
    qr: bool,
}

impl Invite {
    pub(super) fn run(self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(
                "a client's name: letters, digits, . - _ @, at most 64, no sign first".into()
            );
        }
        let config = Config::load(&self.config.config).map_err(|e| e.to_string())?;
        let server = ServerKey::load(&config.key_path()).map_err(|e| e.to_string())?;
        let path = config.clients_dir().join(format!("{}.toml", self.name));
        // What is looked up stays so until it is written.
        let lock = lock(&config.clients_dir()).map_err(|e| e.to_string())?;
        let client = match self.again {
            true => self.find(&config)?,
            false => self.create(&config, &server)?,
        };
        let profile = profile(&config, &server, &client)?;
        let out = self.out.clone().unwrap_or_else(|| format!("{}.toml", self.name).into());
        let to_file = !self.qr && out != Path::new("-");
        if to_file && out.symlink_metadata().is_ok() {
            return Err(format!("{} exists already: nothing was done", out.display()));
        }
        let shown = match (self.qr, to_file) {
            (true, _) => Some(zeroize::Zeroizing::new(qr(&profile)?)),
            (false, false) => Some(profile.to_text()),
            (false, true) => None,
        };
        if !self.again {
            write_new(&path, &client.to_text(), false).map_err(|e| e.to_string())?;
        }
        drop(lock);
        let handed = match &shown {
            Some(text) => print(text),
            None => write_new(&out, &profile.to_text(), false).map_err(|e| e.to_string()),
        };
        if let Err(why) = handed {
            // Nobody has the key: a client without a file would be left over.
            if !self.again {
                let _ = std::fs::remove_file(&path);
            }
            return Err(why);
        }
        if shown.is_some() {
            return Ok(());
        }
        print(&format!(
            "wrote {}: hand it to {} over a safe way, then delete it here\n",
            out.display(),
            self.name
        ))
    }

    /// The client as it stands in a file of its own or in one of many.
    fn find(&self, config: &Config) -> Result<ClientFile, String> {
        let mut all = all(config).map_err(|e| e.to_string())?.into_iter();
        let found = all.find(|found| found.name.as_ref() == Some(&self.name));
        let found = found.ok_or_else(|| {
            format!("no client `{}`: `opensesame-spa clients` lists them", self.name)
        })?;
        found.client.map_err(|e| e.to_string())
    }

    fn create(&self, config: &Config, server: &ServerKey) -> Result<ClientFile, String> {
        let taken = taken(config)?;
        if taken.iter().any(|(name, _)| *name == self.name) {
            return Err(format!(
                "{} is a client already: revoke it first, or say --again",
                self.name
            ));
        }
        let wrong = |e: crate::crypto::NoRandomness| e.to_string();
        let mut id = ClientId(random().map_err(wrong)?);
        while taken.iter().any(|(_, other)| *other == Some(id)) {
            id = ClientId(random().map_err(wrong)?);
        }
        let mut key = ClientKey::generate().map_err(wrong)?;
        while is_door(&key, &server.doors) {
            key = ClientKey::generate().map_err(wrong)?;
        }
        let now = clock::now().unix;
        let client = ClientFile {
            name: self.name.clone(),
            id,
            key,
            overrides: Overrides {
                services: (!self.service.is_empty()).then(|| self.service.clone()),
                ttl: self.ttl,
                max_ttl: self.ttl.filter(|ttl| *ttl > config.policy.max_ttl),
                expires: self.expires.map(|s| now.plus(u64::from(s) * 1_000)),
                uses: self.uses,
                ..Overrides::default()
            },
        };
        let ids: Vec<_> = config.services.iter().map(|s| s.id).collect();
        let access = client.access(&config.policy, &ids)?;
        match access.services.is_empty() {
            true => Err("[policy] lists no services: name one with --service".into()),
            false => Ok(client),
        }
    }
}

/// Names that are taken, and the ids of those that can be read.
fn taken(config: &Config) -> Result<Vec<(String, Option<ClientId>)>, String> {
    let all = all(config).map_err(|e| e.to_string())?.into_iter();
    Ok(all.map(|f| (f.name.unwrap_or_default(), f.id)).collect())
}

fn profile(config: &Config, server: &ServerKey, client: &ClientFile) -> Result<Profile, String> {
    let fixed = config.listen.iter().map(|l| l.address).find(|a| !a.ip().is_unspecified());
    let host = config.server.public.clone().or_else(|| fixed.map(|a| a.to_string()));
    if host.as_ref().is_some_and(|h| Target::parse(h, None).is_none()) {
        return Err(
            "[server] public in server.toml: write NAME:PORT, as clients will use it".into()
        );
    }
    let names = client.overrides.services.as_ref().unwrap_or(&config.policy.services);
    let services = config.services.iter().filter(|s| names.contains(&s.name));
    let ports: Vec<Ports> = services.flat_map(|s| s.ports.clone()).take(16).collect();
    let door = server.doors.first().ok_or("server.key holds no door key")?.clone();
    Ok(Profile {
        name: client.name.clone(),
        host,
        ports,
        server: server.id,
        door,
        id: client.id,
        key: client.key.clone(),
    })
}

fn qr(profile: &Profile) -> Result<String, String> {
    let link = profile.to_link();
    let code = qrcode::QrCode::with_error_correction_level(link.as_bytes(), qrcode::EcLevel::L)
        .map_err(|e| format!("no QR code: {e}"))?;
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().build();
    // Dark on light, whatever the terminal's colours are: not every camera reads the reverse.
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = picture.lines().map(|line| match coloured {
        true => format!("\u{1b}[30;107m{line}\u{1b}[0m\n"),
        false => format!("{line}\n"),
    });
    Ok(lines.collect())
}
