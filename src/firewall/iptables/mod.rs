//! The shield and the leases by iptables, ip6tables and, where it exists, ipset.
//!
//! Ours are chains and sets whose names begin with `OPENSESAME` and `opensesame`, in the tables
//! mangle and raw, and one jump to each from a built-in chain; in nat where a port leads on, and in
//! filter instead of mangle where the machine's own rules drop and ours admit. mangle PREROUTING cannot answer:
//! a port that refuses with a reset refuses in silence here. (A mark for a rule in the filter
//! table that answers would leave the port open as soon as somebody flushes that table.)
//! Needs iptables 1.6.2 (`iptables-restore -w`).

mod cut;
mod elsewhere;
mod enforce;
mod family;
mod program;
mod remove;
mod rules;
mod seen;
mod sessions;
mod sets;
mod table;
mod tools;

use super::{
    Bar, Connections, Cover, Element, Error, Firewall, Form, Opening, Program, ROUNDS, Shield,
};
use crate::access::{Ports, Prefix, Protocol, Refuse};
use crate::time::{Mono, Now};
use family::Family;
use program::WAIT;
use rules::{Mode, Rules};
use sets::is_ours;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use table::Table;
use tools::Tools;

/// Exists in a network namespace that has IPv6 (Linux `net/ipv6/addrconf.c`).
const IPV6: &str = "/proc/thread-self/net/if_inet6";

/// The rules and sets of iptables, ip6tables and ipset.
#[derive(Debug)]
pub struct Iptables {
    shield: Shield,
    tools: Tools,
    /// The same for IPv6; not looked for while the machine has none.
    tools6: Option<Tools>,
    /// ipset and its version.
    ipset: Option<(Program, String)>,
    options: Options,
    version: String,
    openings: Openings,
    bars: Bars,
    cuts: cut::Cuts,
    connections: Connections,
    older: Vec<Session>,
    /// What the lease chains look up, once a `sync` has succeeded and no step failed since.
    mode: Option<Mode>,
    /// Whether what rules of another shape have left is gone.
    swept: bool,
    told: Told,
}

/// How [`Iptables`] chooses its tools.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Use ipset if it is there and works.
    pub ipset: bool,
    /// The legacy variant or the nf_tables variant; otherwise what `iptables` itself is.
    pub legacy: Option<bool>,
    /// Where programs are looked for, in this order.
    pub directories: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
        Options { ipset: true, legacy: None, directories: places.map(PathBuf::from).to_vec() }
    }
}

/// What the log has been told, once.
#[derive(Debug, Default)]
struct Told {
    ipv6: bool,
    raw: bool,
    sessions: bool,
}

/// An opening that the kernel holds; `plain` if as a rule and not in a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    until: Mono,
    plain: bool,
}

type Openings = BTreeMap<Element, Held>;

/// Who is banned, and until when.
type Bars = BTreeMap<Prefix, Mono>;

/// A TCP session: the stranger's end and ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Session {
    from: SocketAddr,
    to: SocketAddr,
}

impl Session {
    /// Address and port.
    fn through(&self) -> Element {
        let to = Ports::new(Protocol::Tcp, self.to.port(), self.to.port()).unwrap_or(sets::LOWEST);
        Element { from: Prefix::host(self.from.ip()), to }
    }
}

impl Iptables {
    /// Finds the tools that the system uses.
    ///
    /// # Errors
    /// [`Error::Missing`] naming the package, or what a tool says.
    pub fn new(shield: &Shield) -> Result<Iptables, Error> {
        Iptables::with(shield, Options::default())
    }

    /// The same with other choices: for tests of each fallback.
    ///
    /// # Errors
    /// As for [`Iptables::new`].
    pub fn with(shield: &Shield, options: Options) -> Result<Iptables, Error> {
        let lacks = |what: &str| Err(Error::Missing(what.to_string()));
        match &shield.form {
            Form::Chain { table, .. } if table != "filter" => {
                return lacks("pinhole: with iptables the table is `filter`");
            }
            Form::Chain { .. } | Form::Mark(_) if shield.observe => {
                return lacks("something to observe: a pinhole drops nothing, your own rules do");
            }
            Form::Chain { .. } | Form::Mark(_) | Form::Shield => {}
        }
        let (tools, version) = Tools::find(Family::V4, &options)?;
        let ipset = if options.ipset { tools::ipset(&options)? } else { None };
        if shield.observe && ipset.is_none() {
            return lacks("ipset: --observe takes it with iptables; install the package ipset");
        }
        let mut told = Told::default();
        let tools6 = match ipv6(&mut told) {
            true => Some(Tools::find(Family::V6, &options)?.0),
            false => None,
        };
        let routed = shield.routed.iter().map(|r| r.refuse);
        if shield.protected.iter().map(|(_, r)| *r).chain(routed).any(|r| r == Refuse::Reset) {
            log::warn!("iptables cannot refuse with a reset before NAT: these ports drop silently");
        }
        Ok(Iptables {
            shield: shield.clone(),
            tools,
            tools6,
            ipset,
            options,
            version,
            openings: Openings::new(),
            bars: Bars::new(),
            cuts: cut::Cuts::new(),
            connections: Connections::open()?,
            older: Vec::new(),
            mode: None,
            swept: false,
            told,
        })
    }

    /// The families that this machine has, with their tools.
    fn families(&mut self) -> Result<Vec<(Family, Tools)>, Error> {
        let mut out = vec![(Family::V4, self.tools.clone())];
        if ipv6(&mut self.told) {
            let tools = match &self.tools6 {
                Some(tools) => tools.clone(),
                None => Tools::find(Family::V6, &self.options)?.0,
            };
            out.push((Family::V6, self.tools6.insert(tools).clone()));
        }
        Ok(out)
    }

    /// Tells the kernel about these elements, which `openings` has in their new state.
    fn tell(&mut self, elements: &[Element], plain: [bool; 2], now: Now) -> Result<(), Error> {
        let mode = self.mode.take().ok_or_else(unsynced)?;
        let families = self.families()?;
        // Where there is no IPv6 there are no sets for it, and nobody comes by it.
        let here = |e: &&Element| families.iter().any(|(family, _)| family.has(e));
        let elements: Vec<Element> = elements.iter().filter(here).copied().collect();
        if mode == Mode::Sets {
            self.ipset(&sets::change(&elements, &self.openings, now))?;
        }
        for (family, tools) in &families {
            let concerned = plain[usize::from(*family == Family::V6)];
            let rules = mode == Mode::Rules && elements.iter().any(|e| family.has(e));
            if concerned || rules {
                tools.restore(&self.rules(*family, mode, now).leases())?;
            }
        }
        self.mode = Some(mode);
        Ok(())
    }

    /// Tells the kernel about these, which `bars` has in their new state. Without sets nobody but
    /// who holds a lease comes in anyway.
    fn tell_bars(&mut self, from: &[Prefix], now: Now) -> Result<(), Error> {
        let mode = self.mode.take().ok_or_else(unsynced)?;
        if mode == Mode::Sets {
            let families = self.families()?;
            let here = |p: &&Prefix| families.iter().any(|(family, _)| family.is(p.address()));
            let here: Vec<Prefix> = from.iter().filter(here).copied().collect();
            self.ipset(&sets::bars(&here, &self.bars, now))?;
        }
        self.mode = Some(mode);
        Ok(())
    }
}

fn unsynced() -> Error {
    Error::Refused("the rules are not known to be ours: synchronise first".to_string())
}

/// Whether this network namespace has IPv6; says once if not.
fn ipv6(told: &mut Told) -> bool {
    let here = Path::new(IPV6).exists();
    if !here && !std::mem::replace(&mut told.ipv6, true) {
        log::warn!("this machine has no IPv6: only IPv4 is shielded until it has");
    }
    here
}

impl Firewall for Iptables {
    fn sync(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        self.mode = None;
        // A lease wins over what was cut, however the kernel comes to hear of it.
        self.lift(openings);
        self.openings.clear();
        for Opening { element, until } in openings.iter().filter(|o| o.until > now.mono) {
            let plain = sets::is_plain(element, *until, now);
            self.openings.insert(*element, Held { until: *until, plain });
        }
        let known = self.look();
        // Without the tools of one family the other one is shielded all the same.
        let families = self.families();
        let ours = match &families {
            Ok(families) => families.clone(),
            Err(_) => vec![(Family::V4, self.tools.clone())],
        };
        let (stands, done) = self.enforce(&ours, known, now);
        // What is locked for the shield is locked for the rest.
        if stands.is_none() && matches!(done, Err(Error::Busy(_))) {
            return done;
        }
        let led = self.lead(&ours, stands.unwrap_or(Mode::Rules), now);
        let swept = self.sweep(&ours);
        done?;
        led.and(swept)?;
        self.untrack(&ours)?;
        families?;
        self.mode = stands;
        self.tools.hurry();
        self.tools6.iter_mut().for_each(Tools::hurry);
        Ok(())
    }

    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        if self.mode.is_none() {
            return Err(unsynced());
        }
        let lifted = self.lift(openings);
        self.tell_cuts(&lifted, now)?;
        let (mut elements, mut rules) = (Vec::new(), [false; 2]);
        for Opening { element, until } in openings {
            let plain = sets::is_plain(element, *until, now);
            let before = self.openings.insert(*element, Held { until: *until, plain });
            rules[usize::from(Family::V6.has(element))] |= plain || before.is_some_and(|b| b.plain);
            elements.push(*element);
        }
        self.tell(&elements, rules, now)
    }

    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        if self.mode.is_none() {
            return Err(unsynced());
        }
        let mut rules = [false; 2];
        for element in elements {
            let before = self.openings.remove(element);
            rules[usize::from(Family::V6.has(element))] |= before.is_some_and(|b| b.plain);
        }
        self.tell(elements, rules, now)
    }

    fn can_cut(&mut self) -> Result<(), Error> {
        match self.ipset {
            Some(_) => self.connections.can_end(),
            None => Err(Error::Missing("ipset, without which iptables cannot cut".into())),
        }
    }

    fn cut(
        &mut self,
        elements: &[Element],
        spared: &dyn Fn(&Element) -> bool,
        now: Now,
    ) -> Result<(), Error> {
        self.close(elements, now)?;
        if self.shield.observe {
            return Ok(());
        }
        let single = |e: &&Element| e.from.is_host() && e.to.is_single() && !spared(e);
        self.shut(&elements.iter().filter(single).copied().collect::<Vec<_>>(), now)?;
        for _ in 0..ROUNDS {
            let running = self.connections.running(elements, &self.shield, spared)?;
            let through = running.through();
            if through.is_empty() {
                break;
            }
            self.shut(&through, now)?;
            self.connections.end(&running);
        }
        Ok(())
    }

    fn can_tell(&mut self) -> Result<(), Error> {
        self.connections.can_end()
    }

    fn connected(&mut self, elements: &[Element]) -> Result<Vec<Element>, Error> {
        self.connections.through(elements, &self.shield)
    }

    fn can_bar(&self) -> Result<(), Error> {
        if self.shield.form != Form::Shield {
            return Err(Error::Missing("bans: a pinhole turns nobody away".into()));
        }
        match self.ipset {
            Some(_) => Ok(()),
            None => Err(Error::Missing("ipset, without which iptables cannot ban".into())),
        }
    }

    fn set_bars(&mut self, bars: &[Bar]) {
        self.bars = bars.iter().map(|bar| (bar.from, bar.until)).collect();
    }

    fn bar(&mut self, bars: &[Bar], now: Now) -> Result<(), Error> {
        self.bars.retain(|_, until| *until > now.mono);
        self.bars.extend(bars.iter().map(|bar| (bar.from, bar.until)));
        self.tell_bars(&bars.iter().map(|bar| bar.from).collect::<Vec<_>>(), now)
    }

    fn unbar(&mut self, from: &[Prefix], now: Now) -> Result<(), Error> {
        from.iter().for_each(|prefix| {
            self.bars.remove(prefix);
        });
        self.tell_bars(from, now)
    }

    fn is_up(&mut self) -> Result<bool, Error> {
        let up = |family, tools: &Tools| {
            let listing = tools.list(&rules::main(&self.shield, family))?;
            let leads = !elsewhere::leads(&self.shield, family)
                || Table::nat().is_asked(&tools.list(&Table::nat())?);
            Ok(leads && rules::is_in_force(&self.shield, family, &listing))
        };
        match &self.tools6 {
            Some(tools6) => Ok(up(Family::V4, &self.tools)? && up(Family::V6, tools6)?),
            None => up(Family::V4, &self.tools),
        }
    }

    fn observed(&mut self) -> Result<Vec<Element>, Error> {
        let mut seen = Vec::new();
        if let (Some((ipset, _)), true) = (self.ipset.clone(), self.shield.observe) {
            for (family, _) in self.families()? {
                seen.extend(seen::read(family, &ipset.run(&["save", family.seen()], "")?)?);
            }
        }
        Ok(seen)
    }

    fn uninstall(&mut self) -> Result<(), Error> {
        self.mode = None;
        for (_, tools) in self.families()? {
            tools.left()?.iter().try_for_each(|table| tools.remove(table))?;
        }
        self.destroy()
    }

    fn describe(&self) -> String {
        match &self.ipset {
            Some((_, version)) => format!("{}, {version}", self.version),
            None => format!("{}, without ipset: leases are rules with a time", self.version),
        }
    }
}
