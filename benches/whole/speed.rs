//! How long it takes: from a knock to a connection, and a whole client.

use crate::door::{Listener, guests, openings};
use crate::fwknop::{Fwknop, Mode};
use crate::ours::Ours;
use crate::peers::Peer;
use crate::space::Host;
use crate::table::{Row, median, ms, percentile, times};
use crate::{Bench, fwknop};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SAMPLES: u32 = 100;
const IDLE: Duration = Duration::from_secs(10);
const IDLE_SAMPLES: u32 = 3;
const WANTED: Duration = Duration::from_micros(500);
const FASTER: f64 = 15.0;
/// Live leases.
const MANY: u32 = 50_000;
const SLOWER: f64 = 1.5;
const CLIENT_RUNS: usize = 50;
const CLIENT_WANTED: Duration = Duration::from_millis(2);

/// All openings but the first, which pays for what has been idle.
fn sample(peer: &mut dyn Peer, first: u32, count: u32) -> Vec<Duration> {
    let listener = Listener::new(peer.space());
    peer.prepare(guests(first, count + 1));
    let all = openings(peer.space(), &listener, peer, 0..count + 1);
    let opened: Vec<Duration> = all.into_iter().skip(1).flatten().collect();
    if opened.len() < count as usize {
        println!("  {}: {} of {count} did not open", peer.name(), count as usize - opened.len());
    }
    opened
}

fn say(peer: &dyn Peer, all: &[Duration]) {
    let (least, late) = (percentile(all, 0), percentile(all, 99));
    let (name, n) = (peer.name(), all.len());
    println!(
        "  {name}: median {}, least {}, 99th of 100 {} ({n})",
        ms(median(all)),
        ms(least),
        ms(late)
    );
}

/// From the datagram to the accepted connection, side by side.
pub fn openings_side_by_side(bench: &Bench) -> Vec<Row> {
    let mut ours = Ours::new(&bench.server, 1);
    let all = sample(&mut ours, 0, SAMPLES);
    say(&ours, &all);
    let busy = median(&all);
    let idle = {
        let listener = Listener::new(ours.space());
        ours.prepare(guests(SAMPLES + 1, IDLE_SAMPLES));
        let one = |n| {
            std::thread::sleep(IDLE);
            openings(ours.space(), &listener, &ours, n..n + 1)[0]
        };
        let idle: Vec<Duration> = (0..IDLE_SAMPLES).filter_map(one).collect();
        median(&idle)
    };
    let mut beside = Vec::new();
    let mut faster = None;
    let mut compare = |peer: &mut dyn Peer| {
        let all = sample(peer, 0, SAMPLES);
        say(peer, &all);
        let ratio = times(busy, median(&all));
        beside.push(format!("{} {} ({ratio:.0} times)", peer.name(), ms(median(&all))));
        ratio
    };
    if fwknop::obstacle().is_none() {
        faster = Some(compare(&mut Fwknop::new(Mode::Udp, 1)));
        compare(&mut Fwknop::new(Mode::Capture, 1));
    }
    if let Some(mut peer) = bench.letmein() {
        compare(&mut peer);
    }
    let target = format!("<= {}; {FASTER:.0} times faster than fwknopd, UDP server", ms(WANTED));
    let met = all.len() == SAMPLES as usize
        && busy <= WANTED
        // What was not measured is not met.
        && faster.is_some_and(|ratio| ratio >= FASTER);
    let what = format!("datagram to accepted connection, median of {SAMPLES}");
    let rare = format!("the same, first one after {} s of idle", IDLE.as_secs());
    vec![Row::new(&what, &target, ms(busy), beside.join("; "), met), Row::figure(&rare, ms(idle))]
}

/// The same with 50,000 live leases.
pub fn with_leases(bench: &Bench) -> Vec<Row> {
    let mut ours = Ours::new(&bench.server, 100);
    let none = median(&sample(&mut ours, 0, SAMPLES));
    let first = SAMPLES + 1;
    ours.fill(guests(first, MANY));
    let there = ours.admitted().len() as u32;
    println!("  {there} leases in the kernel");
    let full = median(&sample(&mut ours, first + MANY, SAMPLES));
    let ratio = times(none, full);
    let seen = format!("{} with none, {} with {there}: {ratio:.2} times", ms(none), ms(full));
    let met = there >= MANY && ratio <= SLOWER;
    let what = "datagram to accepted connection with 50,000 live leases";
    vec![Row::new(what, &format!("<= {SLOWER} times"), seen, String::new(), met)]
}

/// The client program, from its start to its end.
pub fn clients(bench: &Bench) -> Vec<Row> {
    let ours = Ours::new(&bench.server, 1);
    let key = ours.key_file();
    let ours_once = || {
        let mut command = Command::new(&bench.server);
        command.args(["open", "--key", &key]).stdout(Stdio::null());
        command
    };
    let peer = fwknop::obstacle().is_none().then(|| Fwknop::new(Mode::Udp, 1));
    let run = |mut command: Command| {
        let begin = Instant::now();
        let status = command.status().unwrap();
        let spent = begin.elapsed();
        assert!(status.success(), "{command:?}");
        spent
    };
    // In turns, to the same address, each with its own server behind it.
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for n in 0..CLIENT_RUNS {
        own.push(ours.space().enter(Host::Clients, || run(ours_once())));
        if let Some(peer) = &peer {
            let command = peer.client(crate::space::guest(n as u32));
            other.push(peer.space().enter(Host::Clients, || run(command)));
        }
    }
    let (own, other) = (median(&own), median(&other));
    let ratio = 1.0 / times(own, other);
    let beside = match &peer {
        Some(_) => format!("fwknop {} ({ratio:.2} times)", ms(other)),
        None => "SKIPPED: no fwknop".into(),
    };
    let met = own <= CLIENT_WANTED && peer.is_some() && ratio <= SLOWER;
    let target = format!("<= {}, <= {SLOWER} times fwknop's", ms(CLIENT_WANTED));
    let what = format!("`open`, whole process, median of {CLIENT_RUNS}");
    vec![Row::new(&what, &target, ms(own), beside, met)]
}
