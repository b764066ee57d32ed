//! The shield in nftables, over netlink: no other program runs.
//!
//! One table, `inet opensesame`, is ours. `rules` has what it asks, `sets` what it looks into;
//! `sync` compares the table with what it should be and exchanges the difference. In a foreign
//! table (`home`) one chain, its sets and one jump are ours, and nothing else is touched.

mod commit;
mod cut;
mod dump;
mod events;
mod expression;
mod home;
mod message;
mod older;
mod patience;
mod plan;
mod rules;
mod sets;
mod socket;
mod statics;
mod there;
mod wide;

use super::{
    Bar, Connections, Cover, Element, Error, Firewall, Form, Opening, ROUNDS, Shield, disjoint,
};
use crate::access::{Ports, Prefix};
use crate::time::{Mono, Now};
use events::Events;
use expression::Field;
use home::Home;
use message::{delete_table, new_table};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use patience::Patience;
use plan::{Target, Unit};
use sets::{BAN4, BAN6, Contents, Key, LEASE4, LEASE6, Pair, SEEN4, SEEN6, Set, pair};
pub(in crate::firewall) use socket::{Failure, Socket};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use there::There;
use wide::Wide;

/// How often a sync looks again after an answer was lost.
const LOOKS: u32 = 4;

/// How much of what is there a sync leaves in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// All that is right.
    Mend,
    /// All but the sets of the leases, which are full of what has expired.
    FreshSets,
    /// Nothing.
    FreshTable,
}

/// The nftables backend.
#[derive(Debug)]
pub struct Nftables {
    shield: Shield,
    home: Home,
    kernel: String,
    socket: Socket,
    sessions: Socket,
    wide: Wide,
    there: There,
    bars: BTreeMap<Prefix, Mono>,
    cuts: cut::Cuts,
    connections: Connections,
    /// Nothing where the kernel does not tell.
    events: Option<Events>,
}

impl Nftables {
    /// The shield over these ports, in the network namespace of the calling thread. Nothing is
    /// changed before the first [`Firewall::sync`].
    ///
    /// # Errors
    /// [`Error::Rights`] without CAP_NET_ADMIN, [`Error::Missing`] without nf_tables, or for
    /// other hosts' services in a foreign table.
    pub fn new(shield: &Shield) -> Result<Nftables, Error> {
        if shield.observe && shield.form != Form::Shield {
            return Err(Error::Missing(
                "--observe in a pinhole, where nothing of ours drops".into(),
            ));
        }
        let home = Home::of(&shield.form)?;
        if home.host.is_some() && !(shield.routed.is_empty() && shield.forwards.is_empty()) {
            let what = "`hosts` and `forward` with pinhole = { table, chain }: use its mark";
            return Err(Error::Missing(what.into()));
        }
        let open = |protocol, name: &str| Socket::open(protocol).map_err(|e| unopened(e, name));
        let mut socket = open(SockProtocol::NetlinkNetFilter, "nfnetlink")?;
        let sessions = open(SockProtocol::NetlinkSockDiag, "sock_diag")?;
        dump::table(&mut socket, &home)?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = release.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        Ok(Nftables {
            shield: shield.clone(),
            home,
            kernel,
            socket,
            sessions,
            events: Events::open()
                .inspect_err(|e| {
                    log::warn!("no word of others' changes to our rules: {}", e.desc())
                })
                .ok(),
            wide: Wide::new(BTreeMap::new(), Mono(0)),
            there: There::default(),
            bars: BTreeMap::new(),
            cuts: cut::Cuts::new(),
            connections: Connections::open()?,
        })
    }

    /// One look at the table and one attempt to make it ours; says whether there was a table.
    fn attempt(
        &mut self,
        openings: &[Opening],
        now: Mono,
        how: How,
        patience: &mut Patience,
    ) -> Result<bool, Failure> {
        let found = dump::look(&mut self.socket, &self.home)?;
        // Networks that are routed to can hold an address of this machine.
        let own = self.shield.protected.iter().map(|(ports, _)| *ports);
        let all: Vec<Ports> = own.chain(self.shield.routed.iter().map(|r| r.ports)).collect();
        let drops = self.shield.form == Form::Shield;
        let seeds = match drops {
            true => older::seeds(&mut self.sessions, &all, &self.cuts),
            false => Ok(older::none()),
        };
        let unseeded = seeds.is_err();
        let older = seeds.unwrap_or_else(|failure| {
            let why = Error::from(failure);
            log::warn!("sessions older than the shield may be cut, as sock_diag fails: {why}");
            older::none()
        });
        let (own, observe) = (self.home.host.is_none(), self.shield.observe);
        let (hosts, wide) = split(openings, now);
        let (wide, there) = (Wide::new(wide, now), There::of(&hosts));
        let mut targets = Vec::new();
        let mut target = |(set, want): (Set, Contents), in_pieces: bool, keep: bool| {
            let shape = found.sets.get(set.name);
            let fits = shape.is_some_and(|shape| shape.fits(&set));
            // What replaces a set comes with all that is in it.
            let anew = in_pieces && !keep && how == How::FreshSets;
            let in_pieces = in_pieces && !anew && (fits || shape.is_none());
            let have = match fits && !anew {
                true => Some(dump::contents(&mut self.socket, &self.home, &set)?),
                false => None,
            };
            let want = if keep { have.clone().unwrap_or_default() } else { want };
            targets.push(Target { set, have, want, in_pieces });
            Ok::<(), Failure>(())
        };
        for same in statics::statics(&self.shield) {
            target(same, false, false)?;
        }
        for sessions in older.into_iter().filter(|_| drops) {
            target(sessions, false, unseeded)?;
        }
        for pieces in wide.contents(now) {
            target(pieces, false, false)?;
        }
        for host in hosts {
            target(host, true, false)?;
        }
        let bars = self.bars.iter().filter(|(_, until)| **until > now);
        let bars = bars.map(|(from, until)| (sets::bar(from), Some(until.since(now))));
        for banned in pair([BAN4, BAN6], bars).into_iter().filter(|_| drops) {
            target(banned, true, false)?;
        }
        for ended in cut::contents(&self.cuts, now).into_iter().filter(|_| own) {
            target(ended, true, false)?;
        }
        // The kernel fills them.
        for set in [SEEN4, SEEN6].into_iter().filter(|_| observe) {
            target((set, Contents::new()), true, true)?;
        }
        let foreign = plan::is_foreign(&self.shield, &self.home, &found, &targets);
        let replace = found.table && (how == How::FreshTable || foreign);
        let units = plan::everything(&self.shield, &self.home, &found, &targets, replace);
        // A table that is replaced comes with all that was in it.
        let room = if replace { self.socket.most() } else { self.socket.room() };
        self.commit(&units, room, patience)?;
        (self.wide, self.there) = (wide, there);
        if !own {
            self.remove_own()?;
        }
        Ok(found.table)
    }
}

fn unopened(errno: Errno, name: &str) -> Error {
    use Errno::{EACCES, EAFNOSUPPORT, EPERM, EPROTONOSUPPORT};
    if matches!(errno, EPERM | EACCES) {
        return Error::Rights;
    }
    if matches!(errno, EPROTONOSUPPORT | EAFNOSUPPORT) {
        return Error::Missing(format!("{name} in this kernel"));
    }
    Error::Refused(format!("{name} socket: {}", errno.desc()))
}

/// The openings that are not over: those of one address and one port by set, and the wide ones.
fn split(openings: &[Opening], now: Mono) -> (Pair<Option<u64>>, BTreeMap<Element, Mono>) {
    let live = || openings.iter().filter(|o| o.until > now);
    let host = |o: &Opening| Some((sets::host(&o.element)?, Some(o.until.since(now))));
    let wide = live().filter(|o| sets::host(&o.element).is_none());
    let wide = wide.map(|o| (o.element, o.until)).collect();
    (pair([LEASE4, LEASE6], live().filter_map(host)), wide)
}

impl Firewall for Nftables {
    fn sync(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        // A lease wins over what was cut, however the kernel comes to hear of it.
        cut::lift(&mut self.cuts, openings);
        let (mut tries, mut late, mut how) = (0, 0, How::Mend);
        loop {
            let mut patience = Patience::default();
            let at = now.mono.plus(late);
            let failure = match self.attempt(openings, at, how, &mut patience) {
                Ok(true) => return Ok(()),
                // Sessions that began between the look and the shield, seen by nobody yet.
                Ok(false) if tries == 0 => {
                    tries += 1;
                    continue;
                }
                Ok(false) => return Ok(()),
                Err(failure) => failure,
            };
            tries += 1;
            match &failure {
                // The next look shows what has happened.
                Failure::Lost if tries < LOOKS => {}
                // The table has changed since the look.
                Failure::Refused(Errno::ENOENT | Errno::EEXIST, _)
                    if how == How::Mend && patience.wait(&Failure::Batch(Errno::ENOENT), tries) => {
                }
                Failure::Refused(Errno::EBUSY, _) if how == How::Mend => how = How::FreshSets,
                Failure::Refused(Errno::EPERM | Errno::EBUSY | Errno::ENOMEM, _) => {
                    return Err(failure.into());
                }
                // Something is there that the look does not show: all anew.
                Failure::Refused(..) if how != How::FreshTable => how = How::FreshTable,
                Failure::Refused(..) | Failure::Batch(_) | Failure::Lost | Failure::Absent(_) => {
                    return Err(failure.into());
                }
            }
            late += patience.spent();
        }
    }

    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        let (hosts, more) = split(openings, now.mono);
        let wide = (!more.is_empty()).then(|| self.wide.after(now.mono, |all| all.extend(more)));
        let mut units = cut::lift(&mut self.cuts, openings);
        units.extend(wide.iter().map(|wide| self.wide.unit(wide, now.mono)));
        units.extend(self.there.units(&hosts));
        self.change(&units, wide)?;
        self.there.add(hosts);
        Ok(())
    }

    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        let hosts: Vec<(Set, Key)> = elements.iter().filter_map(sets::host).collect();
        let wide = (hosts.len() < elements.len()).then(|| {
            let ended: BTreeSet<&Element> = elements.iter().collect();
            self.wide.after(now.mono, |all| all.retain(|e, _| !ended.contains(e)))
        });
        let mut units: Vec<Unit> = wide.iter().map(|wide| self.wide.unit(wide, now.mono)).collect();
        self.there.remove(hosts.iter().map(|(_, key)| key));
        for set in [LEASE4, LEASE6] {
            let keys = hosts.iter().filter(|(s, _)| *s == set).map(|(_, key)| key);
            units.extend(plan::remove(&set, keys));
        }
        self.change(&units, wide)
    }

    fn can_cut(&mut self) -> Result<(), Error> {
        self.connections.can_end()
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
        let ended = elements.iter().filter(|e| sets::cut(e).is_some() && !spared(e));
        self.shut(&ended.copied().collect::<Vec<_>>(), now.mono)?;
        for _ in 0..ROUNDS {
            let running = self.connections.running(elements, &self.shield, spared)?;
            let through = running.through();
            if through.is_empty() {
                break;
            }
            self.shut(&through, now.mono)?;
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
        match self.shield.form {
            Form::Shield => Ok(()),
            Form::Mark(_) | Form::Chain { .. } => {
                let what = "bans with mode = \"pinhole\", where the machine's own rules drop";
                Err(Error::Missing(what.into()))
            }
        }
    }

    fn set_bars(&mut self, bars: &[Bar]) {
        self.bars = bars.iter().map(|bar| (bar.from, bar.until)).collect();
    }

    fn bar(&mut self, bars: &[Bar], now: Now) -> Result<(), Error> {
        self.bars.retain(|_, until| *until > now.mono);
        self.bars.extend(bars.iter().map(|bar| (bar.from, bar.until)));
        let live = bars.iter().filter(|bar| bar.until > now.mono);
        let live = live.map(|bar| (sets::bar(&bar.from), Some(bar.until.since(now.mono))));
        let sorted: Pair<Option<u64>> = pair([BAN4, BAN6], live);
        let units: Vec<Unit> = sorted
            .iter()
            .flat_map(|(set, all)| {
                plan::renew(set, &all.iter().map(|(key, left)| (key, *left)).collect())
            })
            .collect();
        self.change(&units, None)
    }

    fn unbar(&mut self, from: &[Prefix], _: Now) -> Result<(), Error> {
        from.iter().for_each(|prefix| {
            self.bars.remove(prefix);
        });
        let gone = pair([BAN4, BAN6], from.iter().map(|prefix| (sets::bar(prefix), ())));
        let units: Vec<Unit> =
            gone.iter().flat_map(|(set, keys)| plan::remove(set, keys.keys())).collect();
        self.change(&units, None)
    }

    fn is_up(&mut self) -> Result<bool, Error> {
        match dump::look(&mut self.socket, &self.home) {
            Err(Failure::Absent(_)) => Ok(false),
            found => Ok(found?.is_up(rules::entrance(&self.shield), &self.home)),
        }
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(Events::as_fd)
    }

    fn is_disturbed(&mut self) -> bool {
        let own = self.socket.port();
        self.events.as_mut().is_some_and(|events| events.foreign(own, &self.home))
    }

    fn uninstall(&mut self) -> Result<(), Error> {
        let unit = match self.home.host.clone() {
            // The first makes the second succeed where there is nothing.
            None => vec![new_table(), delete_table()],
            Some(host) => match dump::look(&mut self.socket, &self.home) {
                Err(Failure::Absent(_)) => Unit::new(),
                found => plan::depart(&host, &found?),
            },
        };
        self.change(&[unit], Some(Wide::new(BTreeMap::new(), Mono(0))))
    }

    fn observed(&mut self) -> Result<Vec<Element>, Error> {
        let mut all = Vec::new();
        for set in [SEEN4, SEEN6].iter().filter(|_| self.shield.observe) {
            let contents = dump::contents(&mut self.socket, &self.home, set)?;
            all.extend(contents.keys().filter_map(sets::element));
        }
        Ok(all)
    }

    fn describe(&self) -> String {
        format!("nftables over netlink, kernel {}", self.kernel)
    }
}
