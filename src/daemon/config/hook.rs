//! `on-open` and `on-close` of a service, and `[hook]`: commands that run when leases begin and end.

use super::ConfigError;
use super::raw::{RawService, Span, unsaid};
use crate::access::ServiceId;
use crate::crypto::service_name;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use toml::Spanned;

/// The most words of a command, its program included.
pub const MOST_WORDS: usize = 32;
/// The longest word: bytes.
pub const LONGEST_WORD: usize = 255;
/// The longest time that a command may take: seconds.
const LONGEST: u32 = 600;

/// All hooks, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hooks {
    /// What each service runs.
    pub commands: BTreeMap<ServiceId, Commands>,
    /// `[hook]`: what `[hook]` becomes, and so what the commands run as.
    pub user: String,
    /// `[hook]`: how long a command may take: seconds.
    pub timeout: u32,
}

/// The commands of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Commands {
    /// When a lease begins.
    pub open: Option<Vec<Word>>,
    /// When it ends.
    pub close: Option<Vec<Word>>,
}

/// One word of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// As it stands in the file.
    Text(String),
    /// What it is about; always a whole word.
    Value(Value),
}

/// What a command can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// `{client}`: the client's name.
    Client,
    /// `{service}`: the service's name.
    Service,
    /// `{address}`: an address, or a prefix as `10.0.0.0/24`.
    Address,
    /// `{ports}`: `tcp/22`, or a range as `tcp/8000-8010`.
    Ports,
    /// `{seconds}`: how long the lease lasts from now on, unless it is extended; 0 at a close.
    Seconds,
}

impl Value {
    /// Its name, without braces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Value::Client => "client",
            Value::Service => "service",
            Value::Address => "address",
            Value::Ports => "ports",
            Value::Seconds => "seconds",
        }
    }

    /// All of them.
    pub const ALL: [Value; 5] =
        [Value::Client, Value::Service, Value::Address, Value::Ports, Value::Seconds];
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawHook {
    user: String,
    timeout: Spanned<Span>,
}

impl Default for RawHook {
    fn default() -> RawHook {
        RawHook { user: "_opensesame-hook".into(), timeout: unsaid(Span(10)) }
    }
}

/// A command as it stands in the file.
pub(super) type RawCommand = Spanned<Vec<Spanned<String>>>;

/// Checks it all.
pub(super) fn read(
    path: &Path,
    text: &str,
    hook: RawHook,
    services: &BTreeMap<Spanned<String>, RawService>,
) -> Result<Hooks, ConfigError> {
    let at = |byte: usize, what: &str| ConfigError::at(path, text, byte, what);
    let timeout = hook.timeout.get_ref().0;
    if timeout > LONGEST {
        return Err(at(hook.timeout.span().start, "timeout: at most 10m"));
    }
    let command = |raw: &Option<RawCommand>| {
        let checked = raw.as_ref().map(|raw| {
            words(raw.get_ref(), raw.span().start).map_err(|(byte, what)| at(byte, what))
        });
        checked.transpose()
    };
    let mut commands = BTreeMap::new();
    for (name, service) in services {
        let (open, close) = (command(&service.on_open)?, command(&service.on_close)?);
        if open.is_some() || close.is_some() {
            let id = ServiceId(service_name(name.get_ref()));
            commands.insert(id, Commands { open, close });
        }
    }
    Ok(Hooks { commands, user: hook.user, timeout })
}

fn words(raw: &[Spanned<String>], start: usize) -> Result<Vec<Word>, (usize, &'static str)> {
    if raw.is_empty() || raw.len() > MOST_WORDS {
        return Err((start, "a program and at most 31 words for it are wanted"));
    }
    let word = |(n, raw): (usize, &Spanned<String>)| {
        let (text, wrong) = (raw.get_ref(), |what| Err((raw.span().start, what)));
        if text.len() > LONGEST_WORD || text.contains('\0') {
            return wrong("a word has at most 255 bytes, and none of them is zero");
        }
        if n == 0 && !text.starts_with('/') {
            return wrong("the program: an absolute path is wanted");
        }
        let named = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        let value = Value::ALL.into_iter().find(|v| named == Some(v.name()));
        match value {
            Some(value) => Ok(Word::Value(value)),
            None if text.contains(['{', '}']) => wrong(
                "braces: {client}, {service}, {address}, {ports} and {seconds} are possible, each \
                 as a whole word",
            ),
            None => Ok(Word::Text(text.clone())),
        }
    };
    raw.iter().enumerate().map(word).collect()
}

impl Hooks {
    /// What is wrong with the programs: one that is not there or does not run, or that others than
    /// root could replace.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let commands = self.commands.values().flat_map(|c| c.open.iter().chain(&c.close));
        let programs: BTreeSet<&str> = commands
            .filter_map(|words| match words.first() {
                Some(Word::Text(program)) => Some(program.as_str()),
                Some(Word::Value(_)) | None => None,
            })
            .collect();
        let fault = |p: &&str| fault(Path::new(p)).map(|what| format!("hook {p}: {what}"));
        programs.iter().filter_map(fault).collect()
    }
}

fn fault(program: &Path) -> Option<String> {
    let meta = match program.metadata() {
        Ok(meta) => meta,
        Err(e) => return Some(e.to_string()),
    };
    if !meta.is_file() || meta.mode() & 0o111 == 0 {
        return Some("not a program: a file that may be executed is wanted".into());
    }
    // The file, and every directory on the way to it: who can write there can replace it.
    let real = program.canonicalize().ok()?;
    for place in real.ancestors().chain(program.ancestors().skip(1)) {
        let Ok(meta) = place.metadata() else { continue };
        let own = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
        let shared = meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0);
        if !own || shared {
            return Some(format!("others than root can write to {}", place.display()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::Config;

    fn parse(hooks: &str) -> Result<Hooks, String> {
        let text = format!(
            "[firewall]\nbackend = \"dry-run\"\n[[listen]]\nudp = \"[::]:41841\"\n\
             [service.ssh]\nports = [\"tcp/22\"]\n{hooks}\n"
        );
        let parsed = Config::parse(Path::new("server.toml"), &text);
        parsed.map(|c| c.hooks).map_err(|e| e.to_string())
    }

    #[test]
    fn words_are_texts_and_whole_values() {
        let hooks = parse("on-open = [\"/bin/x\", \"-c\", \"{client}\", \"$(id)\", \"\"]").unwrap();
        let text = |t: &str| Word::Text(t.into());
        let words =
            vec![text("/bin/x"), text("-c"), Word::Value(Value::Client), text("$(id)"), text("")];
        let commands = hooks.commands.values().next().unwrap();
        assert_eq!(*commands, Commands { open: Some(words), close: None });
        assert_eq!((hooks.user.as_str(), hooks.timeout), ("_opensesame-hook", 10));
        let all = "on-close = [\"/x\", \"{client}\", \"{service}\", \"{address}\", \"{ports}\", \
                   \"{seconds}\"]\n[hook]\nuser = \"backup\"\ntimeout = \"5m\"";
        let hooks = parse(all).unwrap();
        let commands = hooks.commands.values().next().unwrap();
        let words = commands.close.as_ref().unwrap()[1..].iter().cloned();
        assert!(words.eq(Value::ALL.map(Word::Value)));
        assert_eq!((hooks.user.as_str(), hooks.timeout), ("backup", 300));
        assert!(parse("").unwrap().commands.is_empty());
    }

    #[test]
    fn what_is_no_command_is_refused_where_it_stands() {
        let many = format!("on-open = [\"/x\"{}]", ", \"y\"".repeat(32));
        let long = format!("on-open = [\"/x\", \"{}\"]", "y".repeat(256));
        for (hooks, at, what) in [
            ("on-open = \"/bin/x {client}\"", "7:11", "sequence"),
            ("on-open = []", "7:11", "a program"),
            (many.as_str(), "7:11", "at most 31 words"),
            (long.as_str(), "7:18", "at most 255 bytes"),
            ("on-open = [\"/x\", \"a\\u0000b\"]", "7:18", "none of them is zero"),
            ("on-open = [\"x\"]", "7:12", "absolute path"),
            ("on-open = [\"{client}\"]", "7:12", "absolute path"),
            ("on-open = [\"/x{client}\"]", "7:12", "whole word"),
            ("on-open = [\"/x\", \"--who={client}\"]", "7:18", "whole word"),
            ("on-open = [\"/x\", \"{name}\"]", "7:18", "braces"),
            ("on-open = [\"/x\", \"}\"]", "7:18", "braces"),
            ("on-close = [\"/x\",\n \"{\"]", "8:2", "braces"),
            ("[hook]\ntimeout = \"11m\"", "8:11", "at most 10m"),
            ("[hook]\nshell = true", "8:1", "shell"),
        ] {
            let why = parse(hooks).unwrap_err();
            assert!(why.contains(&format!(":{at}: ")) && why.contains(what), "{hooks}: {why}");
        }
    }

    #[test]
    fn a_program_that_others_can_replace_is_no_program() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let program = dir.path().join("hook");
        let faults = || {
            let text = format!("on-open = [\"{}\"]", program.display());
            parse(&text).unwrap().faults().join("; ")
        };
        assert!(faults().contains("No such file"));
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(faults().contains("may be executed"));
        mode(&program, 0o755);
        assert_eq!(faults(), "");
        mode(&program, 0o775);
        assert!(faults().contains("others than root"));
        mode(&program, 0o755);
        mode(dir.path(), 0o777);
        assert!(faults().contains("others than root"));
        mode(dir.path(), 0o1777);
        assert_eq!(faults(), "");
    }
}
