//! `say`: the plain key's client.

use super::print;
use crate::client::{Target, ask, resolve, send};
use crate::daemon::config::{LONGEST_KEY, PLAIN_PORT};
use clap::Args;
use std::io::Read;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Say {
    /// The server: HOST or HOST:PORT, an IPv6 address in brackets; port 12345 if none is said
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
    /// What to send, exactly so and without a newline (others on this machine may see it in the
    /// list of processes), or - for stdin
    #[arg(value_name = "TEXT|-", allow_hyphen_values = true)]
    text: String,
    /// Wait for the server's text reply and print it; exit 1 if none comes
    #[arg(long)]
    reply: bool,
}

impl Say {
    pub(super) fn run(self) -> Result<(), String> {
        let target = Target::parse(&self.host, Some(PLAIN_PORT))
            .ok_or_else(|| format!("{:?} is not HOST or HOST:PORT", self.host))?;
        let text = match self.text.as_str() {
            "-" => stdin().map_err(|e| format!("stdin: {e}"))?,
            text => Zeroizing::new(text.as_bytes().to_vec()),
        };
        if text.is_empty() || text.len() > LONGEST_KEY {
            return Err(format!("1 to {LONGEST_KEY} bytes can be said"));
        }
        let to = resolve(&target).map_err(|e| format!("{}: {e}", target.host))?;
        if !self.reply {
            return send(&to, &text).map(|_| ()).map_err(|e| format!("{}: {e}", target.host));
        }
        let answer = ask(&to, &text, PATIENCE).map_err(|e| format!("{}: {e}", target.host))?;
        let answer = answer.ok_or("no reply: the server gives none, or not to this text")?;
        let shown = String::from_utf8_lossy(&answer);
        print(&format!("{}\n", shown.trim_end().escape_debug()))
    }
}

/// All of stdin, but not more than one byte too much.
fn stdin() -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_KEY + 1));
    std::io::stdin().take(LONGEST_KEY as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
