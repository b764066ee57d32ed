//! Many clients and many opens: what a refused packet costs, how long a start takes, how much memory,
//! how many a second; and what a server costs that has nothing to do.

use crate::door::guests;
use crate::flood::{Flood, Plan, Sources};
use crate::fwknop::{Fwknop, Mode};
use crate::ours::Ours;
use crate::packets::Datagram;
use crate::peers::{Peer, knocks, let_in};
use crate::table::{Row, grouped};
use crate::{Bench, cpu, fwknop};
use std::time::{Duration, Instant};

/// Clients of a crowded server.
const CROWD: usize = 100_000;
/// Of one that takes as many opens as it can: each has his share of the journal's memory.
const OPENERS: usize = 2_000;
const STANZAS: usize = 1_000;
/// How much more a refused packet may cost with all clients: of an id that nobody has, and of one.
const MORE: (f64, f64) = (1.3, 2.5);
const START: Duration = Duration::from_secs(1);
/// kB.
const GROWTH: u64 = 60_000;
const REFUSED_TIME: Duration = Duration::from_secs(4);
const REFUSED_RATE: u64 = 50_000;
const DISTINCT: usize = 50_000;
/// Why they are refused, as `status` has it.
const UNKNOWN: &str = "unknown-client";
const FORGED: &str = "unauthentic";
const HMAC_AT: usize = 256;
const OPENS: u32 = 100_000;
const OPENS_WANTED: u64 = 50_000;
/// A window of fwknopd's socket takes these.
const PEER_OPENS: u32 = 100;
const IDLE: Duration = Duration::from_secs(60);
/// kB.
const IDLE_PSS: u64 = 8_000;

/// Processor time for one packet that is refused, by the real server.
fn refusal(ours: &Ours, reason: &str, datagrams: &[Datagram]) -> f64 {
    let (rate, time) = (REFUSED_RATE, REFUSED_TIME);
    let plan = Plan { port: ours.port(), sources: Sources::One, rate, time, stir: Some(HMAC_AT) };
    let pids = ours.processes();
    let (cpu, refused) = (cpu::spent(&pids), ours.refused(reason));
    let report = Flood::start(ours.space(), plan, datagrams).wait(ours.space());
    // What is queued is refused yet.
    std::thread::sleep(Duration::from_millis(300));
    let refused = ours.refused(reason) - refused;
    let each = (cpu::spent(&pids) - cpu).as_secs_f64() / refused.max(1) as f64;
    println!(
        "  {} clients: {refused} refused ({reason}) of {} sent, {:.2} us each",
        ours.clients.len(),
        report.sent,
        each * 1e6
    );
    each
}

fn peer_refusal(stanzas: usize, rate: u64, count: u64) -> f64 {
    let peer = Fwknop::new(Mode::Udp, stanzas);
    let datagrams = peer.unknown(200);
    let (time, sources) = (Duration::from_secs(count / rate), Sources::One);
    let plan = Plan { port: peer.port(), sources, rate, time, stir: None };
    let pids = peer.processes();
    let cpu = cpu::spent(&pids);
    let report = Flood::start(peer.space(), plan, &datagrams).wait(peer.space());
    // What is queued is refused yet: until it costs no more.
    let (mut last, limit) = (Duration::ZERO, Instant::now() + Duration::from_secs(20));
    while Instant::now() < limit {
        std::thread::sleep(Duration::from_secs(1));
        let spent = cpu::spent(&pids) - cpu;
        if spent < last + Duration::from_millis(50) {
            break;
        }
        last = spent;
    }
    let each = (cpu::spent(&pids) - cpu).as_secs_f64() / report.sent as f64;
    println!("  fwknopd, {stanzas} stanzas: {} sent, {:.0} us each", report.sent, each * 1e6);
    each
}

fn us(seconds: f64) -> String {
    format!("{:.2} us", seconds * 1e6)
}

/// Few clients and many: refusals, start, memory.
pub fn crowd(bench: &Bench) -> Vec<Row> {
    let mut few = Ours::new(&bench.server, 1);
    few.restart();
    let few_pss = cpu::pss(&few.processes());
    let few_unknown = refusal(&few, UNKNOWN, &few.secret.unknown(DISTINCT));
    let few_known = refusal(&few, FORGED, &few.secret.forged(&few.clients, DISTINCT));
    drop(few);
    let mut many = Ours::new(&bench.server, CROWD);
    let cold = many.started;
    let warm = many.restart();
    let pss = cpu::pss(&many.processes());
    println!(
        "  {CROWD} clients: ready after {cold:?}, warm {warm:?}; Pss {pss} kB, with one {few_pss} kB"
    );
    let growth = pss.saturating_sub(few_pss);
    let unknown = refusal(&many, UNKNOWN, &many.secret.unknown(DISTINCT));
    let known = refusal(&many, FORGED, &many.secret.forged(&many.clients, DISTINCT));
    let beside = match fwknop::obstacle() {
        Some(why) => format!("SKIPPED: {why}"),
        None => {
            let (one, all) = (peer_refusal(1, 1_000, 4_000), peer_refusal(STANZAS, 50, 200));
            format!("fwknopd {} with 1 stanza, {} with {STANZAS}", us(one), us(all))
        }
    };
    let met = unknown <= few_unknown * MORE.0 && known <= few_known * MORE.1;
    let crowd = grouped(CROWD as u64);
    let seen = format!(
        "unknown id {} with 1 client, {} with {crowd}; known id, bad HMAC {} and {}",
        us(few_unknown),
        us(unknown),
        us(few_known),
        us(known)
    );
    let what = format!("CPU for a refused packet, 1 and {crowd} clients");
    let target = format!("unknown id <= {} times, known id <= {} times", MORE.0, MORE.1);
    let start = format!("{:.2} s, +{:.1} MB", warm.as_secs_f64(), growth as f64 / 1e3);
    let start_target = format!("< {} s, < {} MB", START.as_secs(), GROWTH / 1_000);
    let start_met = warm < START && growth < GROWTH;
    vec![
        Row::new(&what, &target, seen, beside, met),
        Row::new(
            &format!("start until ready, memory: {crowd} clients"),
            &start_target,
            start,
            String::new(),
            start_met,
        ),
    ]
}

/// Distinct addresses a second, by packets of many clients.
pub fn opens(bench: &Bench) -> Vec<Row> {
    let mut ours = Ours::new(&bench.server, OPENERS);
    ours.prepare(guests(OPENS, 1));
    knocks(&ours, 1, Duration::ZERO);
    let (accepted, rate) = ours.fill(guests(0, OPENS));
    std::thread::sleep(Duration::from_millis(500));
    let there = ours.admitted().len() as u64;
    println!("  {accepted} of {OPENS} accepted, {rate:.0}/s, {there} in the kernel");
    println!("  refused {}", ours.status()["refused"]);
    let beside = match fwknop::obstacle() {
        Some(why) => format!("SKIPPED: {why}"),
        None => {
            let mut peer = Fwknop::new(Mode::Udp, 1);
            peer.prepare(guests(0, PEER_OPENS));
            let begin = Instant::now();
            knocks(&peer, PEER_OPENS, Duration::ZERO);
            let inside = let_in(&peer, PEER_OPENS, Duration::from_secs(20));
            let rate = f64::from(inside) / begin.elapsed().as_secs_f64();
            format!("fwknopd {rate:.0}/s ({inside} of {PEER_OPENS})")
        }
    };
    let all = accepted == u64::from(OPENS) && there > accepted;
    let met = all && rate as u64 >= OPENS_WANTED;
    let target = format!(">= {}/s", grouped(OPENS_WANTED));
    let seen = format!("{}/s, {} in the kernel", grouped(rate as u64), grouped(there));
    vec![Row::new("distinct addresses opened a second", &target, seen, beside, met)]
}

/// A minute of nothing, for all of them at once.
pub fn idle(bench: &Bench) -> Vec<Row> {
    let ours = Ours::new(&bench.server, 1);
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(ours)];
    if fwknop::obstacle().is_none() {
        peers.push(Box::new(Fwknop::new(Mode::Udp, 1)));
        peers.push(Box::new(Fwknop::new(Mode::Capture, 1)));
    }
    if let Some(peer) = bench.letmein() {
        peers.push(Box::new(peer));
    }
    // Until what belongs to their start is over.
    std::thread::sleep(Duration::from_secs(5));
    let pids: Vec<Vec<u32>> = peers.iter().map(|p| p.processes()).collect();
    let switches = || -> Vec<u64> { pids.iter().map(|p| cpu::switches(p)).collect() };
    let before = switches();
    std::thread::sleep(IDLE);
    let after = switches();
    let seen: Vec<(u64, u64)> =
        after.iter().zip(&before).zip(&pids).map(|((a, b), p)| (a - b, cpu::pss(p))).collect();
    let shown = |(switches, pss): &(u64, u64)| {
        format!("{} switches, {:.1} MB", grouped(*switches), *pss as f64 / 1e3)
    };
    let beside: Vec<String> = peers
        .iter()
        .zip(&seen)
        .skip(1)
        .map(|(p, s)| format!("{} {}", p.name(), shown(s)))
        .collect();
    println!("  {}: {}", peers[0].name(), shown(&seen[0]));
    beside.iter().for_each(|b| println!("  {b}"));
    let what = format!("idle for {} s: context switches, Pss, of all processes", IDLE.as_secs());
    let target = format!("0, < {} MB", IDLE_PSS / 1_000);
    let met = seen[0].0 == 0 && seen[0].1 < IDLE_PSS;
    vec![Row::new(&what, &target, shown(&seen[0]), beside.join("; "), met)]
}
