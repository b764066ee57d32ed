//! A server's policy, clients and their sealed packets.
#![allow(dead_code, unreachable_pub)]

use opensesame_spa::access::{
    Access, Action, Assurance, ClientId, OnExpiry, Policy, Refuse, Request, Service, ServiceId,
    Services, Terms, Wanted,
};
use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, DoorKey, ServerId, random};
use opensesame_spa::daemon::store::{Directory, Journal, Told};
use opensesame_spa::engine::suspicion::Rules;
use opensesame_spa::engine::{
    Arrival, Client, Command, Engine, History, Mode, Refusal, Reject, Setup, Window,
};
use opensesame_spa::proto::{self, BODY, COVERED, DATAGRAM, HEADER, REQUEST};
use opensesame_spa::time::{Mono, Now, Unix};
use std::net::IpAddr;
use std::path::Path;

pub const SERVER: ServerId = ServerId([7; 16]);
/// The clocks at the start.
pub const START: Now = Now { unix: Unix(1_700_000_000_000), mono: Mono(1_000) };
pub const HOME: &str = "192.0.2.9";

/// The clocks so many milliseconds after the start.
pub fn at(ms: u64) -> Now {
    Now { unix: START.unix.plus(ms), mono: START.mono.plus(ms) }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

pub fn id(n: u8) -> ClientId {
    ClientId([n; 8])
}

pub fn keys(n: u8) -> ClientKeys {
    ClientKeys::derive(SERVER, &ClientKey::new([n; 32]), id(n).0)
}

pub fn door(n: u8) -> Door {
    Door::derive(SERVER, &DoorKey::new([100 + n; 32]))
}

pub fn service(name: &str, ports: &[&str]) -> Service {
    Service {
        id: named(name),
        name: name.into(),
        ports: ports.iter().map(|p| p.parse().expect("ports")).collect(),
        require: None,
        on_expiry: OnExpiry::Keep,
        while_connected: None,
        refuse: Refuse::Drop,
    }
}

pub fn named(name: &str) -> ServiceId {
    ServiceId(opensesame_spa::crypto::service_name(name))
}

/// Services by name or as ports.
pub fn services(list: &[&str]) -> Services {
    let wanted = |text: &&str| match text.parse() {
        Ok(ports) => Wanted::Ports(ports),
        Err(_) => Wanted::Named(named(text)),
    };
    Services::new(&list.iter().map(wanted).collect::<Vec<_>>()).expect("eight")
}

/// May open `ssh` (tcp/22) and `web` (tcp/80, tcp/443) for up to an hour, from anywhere.
pub fn access(n: u8) -> Access {
    Access::new(
        id(n),
        &format!("client-{n}"),
        Terms {
            assurance: Assurance::Sealed,
            services: vec![named("ssh"), named("web")],
            ttl: 30,
            max_ttl: 3_600,
            max_leases: 16,
            sources: vec![],
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: None,
            uses: None,
            hours: Vec::new(),
        },
    )
}

pub fn setup(accesses: Vec<Access>) -> Setup {
    let client = |a: Access| {
        let key = ClientKey::new([a.client.0[0]; 32]);
        Client::new(a, SERVER, &key)
    };
    let list = vec![
        service("ssh", &["tcp/22"]),
        service("web", &["tcp/80", "tcp/443"]),
        service("db", &["tcp/5432"]),
    ];
    Setup {
        plain: None,
        knocks: Vec::new(),
        salt: [0; 16],
        server: SERVER,
        doors: vec![door(0)],
        clients: accesses.into_iter().map(client).collect(),
        policy: Policy::new(list, vec![ip("198.51.100.1")]),
        rules: Rules::default(),
        window: Window::default(),
        boot: [1; 16],
    }
}

/// An open of what the policy says, for `HOME`.
pub fn open(time: Unix) -> Request {
    Request {
        action: Action::Open,
        reply: false,
        replace: false,
        source: false,
        v4: Some(HOME.parse().expect("an address")),
        v6: None,
        services: Services::EMPTY,
        time,
        ttl: 0,
    }
}

pub fn close(time: Unix) -> Request {
    Request { action: Action::Close, ..open(time) }
}

pub fn nonce() -> [u8; 24] {
    random().expect("randomness")
}

pub fn packet(n: u8, request: &Request) -> [u8; DATAGRAM] {
    proto::seal(request, id(n), SERVER, &door(0), &keys(n), &nonce())
}

/// A packet with any body, sealed for any server, and authentic.
pub fn forged(n: u8, server: ServerId, body: &[u8; BODY]) -> [u8; DATAGRAM] {
    let (door, keys, nonce) = (door(0), keys(n), nonce());
    let mut out = [0; DATAGRAM];
    out[..24].copy_from_slice(&nonce);
    out[24..28].copy_from_slice(&door.tag(nonce[..8].try_into().expect("8")));
    out[28..36].copy_from_slice(&door.mask(nonce[12..].try_into().expect("12"), id(n).0));
    let associated = [&server.0[..], &out[..HEADER]].concat();
    let mut sealed = *body;
    let tag = keys.seal.seal(&nonce, &associated, &mut sealed);
    out[HEADER..HEADER + BODY].copy_from_slice(&sealed);
    out[HEADER + BODY..COVERED].copy_from_slice(&tag);
    let hmac = keys.mac.tag(&[&out[..COVERED]]);
    out[COVERED..].copy_from_slice(&hmac);
    out
}

/// The body that says this.
pub fn body(request: &Request) -> [u8; BODY] {
    let mut out = [0; BODY];
    out[..REQUEST].copy_from_slice(&proto::encode(request));
    out
}

/// An engine without a past, that believes in a journal.
pub fn engine(accesses: Vec<Access>) -> Engine {
    let mut engine = Engine::start(setup(accesses), &History::default(), START);
    engine.handle_store_mended();
    engine
}

/// Does everything that the engine asks for until it is quiet; what it asked for, and the answers
/// to packets that waited.
pub fn settle(
    engine: &mut Engine,
    now: Now,
) -> (Vec<Command>, Vec<Result<opensesame_spa::access::Grant, Refusal>>) {
    let (mut all, mut answers) = (vec![], vec![]);
    loop {
        engine.handle_turn(now);
        let some: Vec<Command> = std::iter::from_fn(|| engine.poll_command()).collect();
        if some.is_empty() {
            return (all, answers);
        }
        for command in &some {
            if let Command::Sync(ticket) = command {
                answers.extend(engine.handle_synced(*ticket, now).into_iter().map(|(_, a)| a));
            }
            if let Command::Grant(grant) = command {
                engine.handle_recorded(grant);
            }
        }
        all.extend(some);
    }
}

/// Sends one datagram and waits for what becomes of it: the commands, or why it was refused.
pub fn send(
    engine: &mut Engine,
    bytes: &[u8],
    from: &str,
    now: Now,
) -> Result<Vec<Command>, Refusal> {
    let arrival = Arrival { bytes, from: ip(from), mode: Mode::Spa };
    let at_once = engine.handle_arrival(&arrival, now);
    let (commands, answers) = settle(engine, now);
    at_once?;
    answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(commands)
}

/// Asks and says why not, or what was granted.
pub fn ask(
    engine: &mut Engine,
    n: u8,
    request: &Request,
    now: Now,
) -> Result<Vec<opensesame_spa::access::Claim>, Reject> {
    let commands = send(engine, &packet(n, request), HOME, now).map_err(|r| r.reason)?;
    let granted = |c: Command| match c {
        Command::Grant(grant) => Some(*grant.claim()),
        Command::Record(_)
        | Command::Sync(_)
        | Command::Restore(_)
        | Command::Suspect(_)
        | Command::Hook(_) => None,
    };
    Ok(commands.into_iter().filter_map(granted).collect())
}

/// An engine with its journal in that directory.
pub fn engine_in(path: &Path, boot: u8, now: Now) -> (Engine, Journal<Directory>, Vec<Told>) {
    let disk = Directory::new(std::fs::File::open(path).expect("a journal").into());
    let (journal, history) = Journal::open(disk).expect("a journal");
    let mut journal = journal.with_segments(16 * 128);
    let mut with = setup(vec![access(1)]);
    with.boot = [boot; 16];
    let mut engine = Engine::start(with, &history, now);
    if engine.wants_segment() {
        journal.mend(&mut engine).expect("a journal");
    }
    let told = journal.turn(&mut engine, now).told;
    (engine, journal, told)
}
