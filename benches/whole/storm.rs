//! Valid packets among a flood of others: who comes in, and what it costs.

use crate::door::{Watch, guests};
use crate::flood::{Flood, Plan, Report, Sources, arrives};
use crate::fwknop::{Fwknop, Mode};
use crate::ours::Ours;
use crate::packets::{Datagram, garbage};
use crate::peers::{Peer, in_flood, let_in};
use crate::table::{Row, grouped, ms, percentile};
use crate::{Bench, cpu, fwknop};
use std::time::Duration;

/// As many as stay in the processor's cache: the flooder is to send, not to wait for memory.
const PREPARED: usize = 2_048;
const OPENS: u32 = 200;
const FAST_ENOUGH: u64 = 400_000;
const SOON: Duration = Duration::from_millis(50);
const CPU: f64 = 0.05;
/// What counts as flat: connections, kB, bytes.
const FLAT: (u64, u64, u64) = (20, 1_024, 4_096);
const FORGED_RATE: u64 = 100_000;
const FORGED_OPENS: u32 = 100;
const FORGED_WANTED: u32 = 99;
/// Distinct ones; the HMAC of each is made anew each time.
const FORGED: usize = 50_000;
/// The byte at which the HMAC begins.
const HMAC_AT: usize = 256;
const MODEST_RATE: u64 = 50_000;
/// Of a flood against a peer.
const PEER_TIME: Duration = Duration::from_secs(5);

/// The packets are sent within this part of the flood.
fn within(time: Duration) -> Duration {
    time * 8 / 10
}

struct Outcome {
    report: Report,
    /// In the kernel's set within 50 ms, and in the end.
    soon: u32,
    inside: u32,
    late: Duration,
    cpu: f64,
    tracked: u64,
    pss: u64,
    logged: u64,
}

/// Bytes of lines that tell of no lease: what strangers can cause.
fn strange(peer: &dyn Peer) -> u64 {
    peer.log().lines().filter(|l| !l.contains(" open client=")).map(|l| l.len() as u64 + 1).sum()
}

fn ours_in(
    bench: &Bench,
    plan: Plan,
    opens: u32,
    made: impl Fn(&Ours) -> Vec<Datagram>,
) -> Outcome {
    let mut ours = Ours::new(&bench.server, 1);
    let datagrams = made(&ours);
    ours.prepare(guests(0, opens));
    let pids = ours.processes();
    let (tracked, pss, logged) = (ours.space().tracked(), cpu::pss(&pids), strange(&ours));
    let watch = Watch::new(ours.space());
    let cpu = cpu::spent(&pids);
    let flood = Flood::start(ours.space(), plan, &datagrams);
    let (report, sent) = in_flood(&ours, flood, opens, within(plan.time));
    let cpu = (cpu::spent(&pids) - cpu).as_secs_f64() / report.time.as_secs_f64();
    let inside = let_in(&ours, opens, Duration::from_secs(2));
    let seen = watch.end();
    let took: Vec<Duration> = (0..opens)
        .zip(&sent)
        .filter_map(|(n, sent)| Some(seen.get(&ours.address(n))?.saturating_duration_since(*sent)))
        .collect();
    let soon = took.iter().filter(|t| **t <= SOON).count() as u32;
    let late = percentile(&took, 99);
    assert_eq!(pids, ours.processes(), "a process has ended: {}", ours.log());
    let tracked = ours.space().tracked().saturating_sub(tracked);
    let pss = cpu::pss(&pids).saturating_sub(pss);
    let logged = strange(&ours) - logged;
    let busy = report.cpu.as_secs_f64() / report.time.as_secs_f64();
    println!(
        "  {}/s sent by {:.0} % of a core, {} of {} arrived",
        grouped(report.rate()),
        busy * 100.0,
        report.arrived,
        report.sent
    );
    println!(
        "  {inside} of {opens} in, {soon} within {}, 99th of 100 {}, CPU {:.1} %",
        ms(SOON),
        ms(late),
        cpu * 100.0
    );
    println!(
        "  refused {}; connections +{tracked}, Pss +{pss} kB, log +{logged} bytes",
        ours.status()["refused"]
    );
    Outcome { report, soon, inside, late, cpu, tracked, pss, logged }
}

/// What the same does to a peer, in few words.
fn peer_in(peer: &mut dyn Peer, plan: Plan, opens: u32, datagrams: &[Datagram]) -> String {
    peer.prepare(guests(0, opens));
    let pids = peer.processes();
    let (cpu, logged) = (cpu::spent(&pids), peer.logged());
    let flood = Flood::start(peer.space(), plan, datagrams);
    let (report, _) = in_flood(peer, flood, opens, within(plan.time));
    let inside = let_in(peer, opens, Duration::from_secs(2));
    let cpu = (cpu::spent(&pids) - cpu).as_secs_f64() / report.time.as_secs_f64() * 100.0;
    let logged = grouped(peer.logged() - logged);
    let rate = grouped(report.rate());
    let text = format!(
        "{} at {rate}/s: {inside} of {opens} in, CPU {cpu:.0} %, log +{logged} bytes",
        peer.name()
    );
    println!("  {text}");
    text
}

/// Garbage as fast as one core can send it.
pub fn garbage_flood(bench: &Bench) -> Vec<Row> {
    let datagrams = garbage(PREPARED);
    let mut rows = Vec::new();
    let mut beside = peers_in_garbage(bench, &datagrams);
    for (sources, name) in [(Sources::One, "one source"), (Sources::Random, "random sources")] {
        let port = 41_841;
        let plan = Plan { port, sources, rate: 0, time: bench.time, stir: Some(0) };
        let o = ours_in(bench, plan, OPENS, |ours| {
            let (sent, seen) = arrives(ours.space(), sources, &datagrams);
            println!("  a flood to a plain socket ({name}): {sent} sent, {seen} seen");
            assert!(seen >= sent / 100 * 99, "the flood is not what it says");
            datagrams.clone()
        });
        let flat = o.tracked <= FLAT.0 && o.pss <= FLAT.1 && o.logged <= FLAT.2;
        let all = o.inside == OPENS && o.soon == OPENS;
        let real = o.report.is_real() && o.report.rate() >= FAST_ENOUGH;
        let met = real && all && o.cpu < CPU && flat;
        let seen = format!(
            "{}/s: {} of {OPENS} in, {} within 50 ms (99th of 100: {}), CPU {:.1} %, connections +{}, Pss +{} kB, log +{} bytes",
            grouped(o.report.rate()),
            o.inside,
            o.soon,
            ms(o.late),
            o.cpu * 100.0,
            o.tracked,
            o.pss,
            o.logged
        );
        let target = format!(
            ">= {}/s; {OPENS} of {OPENS} within 50 ms, CPU < {:.0} % of a core, all flat",
            grouped(FAST_ENOUGH),
            CPU * 100.0
        );
        let what = format!("valid opens in a flood of garbage, {name}");
        rows.push(Row::new(&what, &target, seen, std::mem::take(&mut beside), met));
    }
    rows
}

fn peers_in_garbage(bench: &Bench, datagrams: &[Datagram]) -> String {
    let mut beside = Vec::new();
    for rate in [MODEST_RATE, 0] {
        let plan =
            |port| Plan { port, sources: Sources::One, rate, time: PEER_TIME, stir: Some(0) };
        if fwknop::obstacle().is_none() {
            let mut peer = Fwknop::new(Mode::Udp, 1);
            let plan = plan(peer.port());
            beside.push(peer_in(&mut peer, plan, 20, datagrams));
        }
        if let Some(mut peer) = bench.letmein() {
            let plan = plan(peer.port());
            beside.push(peer_in(&mut peer, plan, 10, datagrams));
        }
    }
    beside.join("; ")
}

/// Packets that pass the sieve and name a client, and are not his.
pub fn forged_flood(bench: &Bench) -> Vec<Row> {
    let (rate, time) = (FORGED_RATE, bench.time);
    let plan = Plan { port: 41_841, sources: Sources::One, rate, time, stir: Some(HMAC_AT) };
    let made = |ours: &Ours| ours.secret.forged(&ours.clients, FORGED);
    let o = ours_in(bench, plan, FORGED_OPENS, made);
    let real = o.report.is_real() && o.report.rate() * 100 >= rate * 95;
    let seen = format!(
        "{} of {FORGED_OPENS} in at {}/s, 99th of 100 within {}, CPU {:.0} %",
        o.inside,
        grouped(o.report.rate()),
        ms(o.late),
        o.cpu * 100.0
    );
    let target = format!(">= {FORGED_WANTED} of {FORGED_OPENS} at {}/s", grouped(rate));
    let what = "valid opens among packets with a valid tag, a known id and a bad HMAC";
    vec![Row::new(what, &target, seen, String::new(), real && o.inside >= FORGED_WANTED)]
}
