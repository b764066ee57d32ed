//! What the demo prints: one line a check, plain and aligned, and at once.

use super::guest::Tried;
use super::{DemoError, Family, SERVICE};
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;

/// What a check should find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Open,
    Shut,
}

impl Want {
    /// Shut means that nothing answers: a refusal comes from a host without the service.
    pub(super) fn is(self, found: &Tried) -> bool {
        match self {
            Want::Open => *found == Tried::Open,
            Want::Shut => *found == Tried::Silence,
        }
    }
}

impl Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Want::Open => "open",
            Want::Shut => "shut",
        })
    }
}

impl Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tried::Open => f.pad("open"),
            Tried::Refused => f.pad("refused"),
            Tried::Silence => f.pad("shut"),
            Tried::Odd(what) => f.pad(what),
        }
    }
}

/// Counts the checks and prints them.
pub(super) struct Report {
    colour: bool,
    checks: usize,
    failed: Vec<String>,
}

impl Report {
    /// With colours on a terminal, unless NO_COLOR (no-color.org) is set.
    pub(super) fn new() -> Report {
        let asked = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let colour = asked && io::stdout().is_terminal();
        Report { colour, checks: 0, failed: Vec::new() }
    }

    /// A line of text.
    pub(super) fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        // Nobody reads any more: the checks still count, and the exit status tells.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A command as somebody types it on that host.
    pub(super) fn command(&self, host: &str, argv: &[String], dir: &str) {
        let shown = argv.join(" ").replace(&format!("{dir}/"), "").replace(dir, ".");
        self.line(&self.paint("2", &format!("     {host}$ opensesame-spa {shown}")));
    }

    /// One look at the port.
    pub(super) fn port(
        &mut self,
        (step, family): (u8, Family),
        text: &str,
        from: IpAddr,
        want: Want,
        found: &Tried,
    ) {
        let line = look(step, text, from, found);
        let wrong = (!want.is(found)).then(|| format!("should be {want}"));
        self.verdict(step, family, &line, wrong);
    }

    /// A check that is no look at the port; `wrong` says what is not so.
    pub(super) fn fact(&mut self, (step, family): (u8, Family), text: &str, wrong: Option<String>) {
        self.verdict(step, family, &format!("  {step}  {text:<70}"), wrong);
    }

    fn verdict(&mut self, step: u8, family: Family, line: &str, wrong: Option<String>) {
        self.checks += 1;
        let Some(why) = wrong else {
            return self.line(&format!("{line} {}", self.paint("32", "ok")));
        };
        self.line(&format!("{line} {} {why}", self.paint("31", "FAILED:")));
        self.failed.push(format!("{step} ({})", family.name()));
    }

    /// The summary.
    pub(super) fn end(self) -> Result<(), DemoError> {
        if self.failed.is_empty() {
            self.line(&format!("\n{} checks, all as they should be", self.checks));
            return Ok(());
        }
        let mut steps = self.failed;
        let failed = steps.len();
        steps.dedup();
        let steps = format!("step {}", steps.join(", "));
        Err(DemoError::Checks { failed, of: self.checks, steps })
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

fn look(step: u8, text: &str, from: IpAddr, found: &Tried) -> String {
    format!("  {step}  {text:<34} {from:<10} ->  tcp/{SERVICE} {found:<10}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_for_both_families() {
        let four = look(3, "one packet", "10.99.1.2".parse().unwrap(), &Tried::Open);
        let six = look(4, "the stranger", "fd99:2::2".parse().unwrap(), &Tried::Silence);
        assert_eq!(four.len(), six.len());
        assert_eq!(four.find("->"), six.find("->"));
    }

    #[test]
    fn a_refusal_is_neither_open_nor_shut() {
        for want in [Want::Open, Want::Shut] {
            assert!(!want.is(&Tried::Refused), "{want}");
            assert!(!want.is(&Tried::Odd("no route".into())), "{want}");
        }
        assert!(Want::Open.is(&Tried::Open) && !Want::Open.is(&Tried::Silence));
        assert!(Want::Shut.is(&Tried::Silence) && !Want::Shut.is(&Tried::Open));
    }

    #[test]
    fn one_wrong_check_is_an_error_that_names_it() {
        let from = "10.99.2.2".parse().unwrap();
        let mut report = Report { colour: false, checks: 0, failed: Vec::new() };
        report.port((4, Family::V4), "a", from, Want::Shut, &Tried::Silence);
        report.port((5, Family::V4), "b", from, Want::Shut, &Tried::Open);
        let text = report.end().unwrap_err().to_string();
        assert_eq!(text, "1 of 2 checks are not as they should be: step 5 (IPv4)");
    }
}
