//! The shield in nftables, over netlink: no other program runs.
//!
//! One table, `inet opensesame`, is ours. `rules` has what it asks, `sets` what it looks into;
//! `sync` compares the table with what it should be and exchanges the difference.

mod dump;
mod events;
mod expression;
mod message;
mod older;
mod patience;
mod plan;
mod rules;
mod sets;
mod socket;
mod wide;

use super::{Bar, Element, Error, Firewall, Opening, Shield, disjoint};
use crate::access::{Ports, Prefix, Refuse};
use crate::time::{Mono, Now};
use events::Events;
use expression::Field;
use message::{delete_table, new_table};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use patience::Patience;
use plan::{Target, Unit};
use sets::{BAN4, BAN6, CUT4, CUT6, Contents, Key, LEASE4, LEASE6, PORTS, Pair, RESETS, Set, pair};
use socket::{Failure, Socket};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
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
    kernel: String,
    socket: Socket,
    sessions: Socket,
    wide: Wide,
    bars: BTreeMap<Prefix, Mono>,
    /// Nothing where the kernel does not tell.
    events: Option<Events>,
}

impl Nftables {
    /// The shield over these ports, in the network namespace of the calling thread. Nothing is
    /// changed before the first [`Firewall::sync`].
    ///
    /// # Errors
    /// [`Error::Rights`] without CAP_NET_ADMIN, [`Error::Missing`] without nf_tables.
    pub fn new(shield: &Shield) -> Result<Nftables, Error> {
        shield.is_plain("nftables")?;
        let open = |protocol, name: &str| Socket::open(protocol).map_err(|e| unopened(e, name));
        let mut socket = open(SockProtocol::NetlinkNetFilter, "nfnetlink")?;
        let sessions = open(SockProtocol::NetlinkSockDiag, "sock_diag")?;
        dump::table(&mut socket)?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = release.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        Ok(Nftables {
            shield: shield.clone(),
            kernel,
            socket,
            sessions,
            events: Events::open()
                .inspect_err(|e| {
                    log::warn!("no word of others' changes to our rules: {}", e.desc())
                })
                .ok(),
            wide: Wide::new(BTreeMap::new(), Mono(0)),
            bars: BTreeMap::new(),
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
        let found = dump::look(&mut self.socket)?;
        let all: Vec<Ports> = self.shield.protected.iter().map(|(ports, _)| *ports).collect();
        let resets = self.shield.protected.iter().filter(|(_, how)| *how == Refuse::Reset);
        let resets: Vec<Ports> = resets.map(|(ports, _)| *ports).collect();
        let seeds = older::seeds(&mut self.sessions, &all);
        let unseeded = seeds.is_err();
        let older = seeds.unwrap_or_else(|failure| {
            let why = Error::from(failure);
            log::warn!("sessions older than the shield may be cut, as sock_diag fails: {why}");
            older::none()
        });
        let (hosts, wide) = split(openings, now);
        let wide = Wide::new(wide, now);
        let static_ports = |set: Set, list: &[Ports]| {
            let set = set.holding(list);
            (set, list.iter().map(|p| (sets::ports(p, set.interval), None)).collect())
        };
        let mut targets = Vec::new();
        let mut target = |(set, want): (Set, Contents), in_pieces: bool, keep: bool| {
            let shape = found.sets.get(set.name);
            let fits = shape.is_some_and(|shape| shape.fits(&set));
            // What replaces a set comes with all that is in it.
            let anew = in_pieces && !keep && how == How::FreshSets;
            let in_pieces = in_pieces && !anew && (fits || shape.is_none());
            let have = match fits && !anew {
                true => Some(dump::contents(&mut self.socket, &set)?),
                false => None,
            };
            let want = if keep { have.clone().unwrap_or_default() } else { want };
            targets.push(Target { set, have, want, in_pieces });
            Ok::<(), Failure>(())
        };
        let single: Vec<Ports> = all.iter().filter(|p| p.is_single()).copied().collect();
        target(static_ports(PORTS, &single), false, false)?;
        target(static_ports(RESETS, &resets), false, false)?;
        for sessions in older {
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
        for banned in pair([BAN4, BAN6], bars) {
            target(banned, true, false)?;
        }
        // Not ours to decide here: they stay as they are.
        for set in [CUT4, CUT6] {
            target((set, Contents::new()), true, true)?;
        }
        let replace = found.table && (how == How::FreshTable || plan::is_foreign(&found, &targets));
        let units = plan::everything(&self.shield, &found, &targets, replace);
        // A table that is replaced comes with all that was in it.
        let room = if replace { self.socket.most() } else { self.socket.room() };
        self.commit(&units, room, patience)?;
        self.wide = wide;
        Ok(found.table)
    }

    /// Commits the units in order and in transactions of at most `room` bytes.
    fn commit(
        &mut self,
        units: &[Unit],
        room: usize,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        for some in plan::transactions(units, room) {
            let transaction: Vec<_> = some.iter().flatten().collect();
            let mut tries = 0;
            while let Err(failure) = self.socket.transact(&transaction) {
                tries += 1;
                if some.len() > 1 && Patience::divides(&failure, tries) {
                    self.commit(some, 0, patience)?;
                    break;
                }
                if !patience.wait(&failure, tries) {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// The same for one call that is no sync.
    fn change(&mut self, units: &[Unit], wide: Wide) -> Result<(), Error> {
        self.commit(units, self.socket.room(), &mut Patience::default())?;
        self.wide = wide;
        Ok(())
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
                Failure::Refused(..) | Failure::Batch(_) | Failure::Lost => {
                    return Err(failure.into());
                }
            }
            late += patience.spent();
        }
    }

    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        let (hosts, more) = split(openings, now.mono);
        let wide = match more.is_empty() {
            true => self.wide.clone(),
            false => self.wide.after(now.mono, |all| all.extend(more)),
        };
        let mut units = vec![self.wide.unit(&wide, now.mono)];
        for (set, all) in &hosts {
            let elements = all.iter().map(|(key, left)| (key, *left)).collect();
            units.extend(plan::renew(set, &elements));
        }
        self.change(&units, wide)
    }

    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        let hosts: Vec<(Set, Key)> = elements.iter().filter_map(sets::host).collect();
        let wide = match hosts.len() == elements.len() {
            true => self.wide.clone(),
            false => {
                let ended: BTreeSet<&Element> = elements.iter().collect();
                self.wide.after(now.mono, |all| all.retain(|e, _| !ended.contains(e)))
            }
        };
        let mut units = vec![self.wide.unit(&wide, now.mono)];
        for set in [LEASE4, LEASE6] {
            let keys = hosts.iter().filter(|(s, _)| *s == set).map(|(_, key)| key);
            units.extend(plan::remove(&set, keys));
        }
        self.change(&units, wide)
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
        self.change(&units, self.wide.clone())
    }

    fn unbar(&mut self, from: &[Prefix], _: Now) -> Result<(), Error> {
        from.iter().for_each(|prefix| {
            self.bars.remove(prefix);
        });
        let gone = pair([BAN4, BAN6], from.iter().map(|prefix| (sets::bar(prefix), ())));
        let units: Vec<Unit> =
            gone.iter().flat_map(|(set, keys)| plan::remove(set, keys.keys())).collect();
        self.change(&units, self.wide.clone())
    }

    fn is_up(&mut self) -> Result<bool, Error> {
        Ok(dump::table(&mut self.socket)?)
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(Events::as_fd)
    }

    fn is_disturbed(&mut self) -> bool {
        let own = self.socket.port();
        self.events.as_mut().is_some_and(|events| events.foreign(own))
    }

    fn uninstall(&mut self) -> Result<(), Error> {
        // The first makes the second succeed where there is nothing.
        let units = [vec![new_table(), delete_table()]];
        self.change(&units, Wide::new(BTreeMap::new(), Mono(0)))
    }

    fn describe(&self) -> String {
        format!("nftables over netlink, kernel {}", self.kernel)
    }
}
