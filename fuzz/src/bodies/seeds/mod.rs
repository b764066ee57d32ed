//! Where the fuzzer begins: one sound input of each kind, and inputs that are wrong in one way.
//! `cargo run --example seeds` in `fuzz/` writes them to `fuzz/seeds/`.

mod doors;
mod files;
mod games;
mod hooks;

use super::TEST_CLIENT;
use opensesame_spa::access::{
    Access, Action, Assurance, Claim, ClientId, OnExpiry, Refuse, Request, Service, ServiceId,
    Services, Terms, Wanted,
};
use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, DoorKey};
use opensesame_spa::daemon::config::Capturing;
use opensesame_spa::daemon::frame::{self, Begin, COUNTERS, Frame};
use opensesame_spa::daemon::store::{SLOT, encode};
use opensesame_spa::engine::{Mode, Record, Window};
use opensesame_spa::proto;
use opensesame_spa::time::{Mono, Unix};

/// Target, name and bytes of every seed.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut add = |target, seeds: Vec<(&str, Vec<u8>)>| {
        out.extend(seeds.into_iter().map(|(name, bytes)| (target, name.to_string(), bytes)));
    };
    add("request", requests());
    add("spa_packet", packets());
    add("frame", frames());
    add("config", files::configs());
    add("client_file", files::client_files());
    add("journal", journals());
    add("engine", games::games());
    out
}

fn profile() -> Profile {
    Profile::parse(TEST_CLIENT).expect("the test keys are a client file")
}

fn open() -> Request {
    Request {
        action: Action::Open,
        reply: true,
        replace: false,
        source: true,
        v4: None,
        v6: Some("2001:db8::/64".parse().expect("a prefix")),
        services: services(&["tcp/22", "udp/51820"]),
        time: Unix(1_790_000_000_000),
        ttl: 30,
    }
}

fn services(ports: &[&str]) -> Services {
    let port = |t: &&str| Wanted::Ports(t.parse().expect("a port"));
    let mut list: Vec<Wanted> = ports.iter().map(port).collect();
    list.push(Wanted::Named(ServiceId(*b"\x01\x02\x03\x04")));
    Services::new(&list).expect("at most eight")
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let close = Request { action: Action::Close, ttl: 0, replace: true, ..open() };
    let both = Request {
        source: false,
        v4: Some("192.0.2.0/24".parse().expect("a prefix")),
        services: Services::EMPTY,
        ..open()
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = proto::encode(&open());
        bytes[at] = byte;
        bytes.to_vec()
    };
    vec![
        ("open", proto::encode(&open()).to_vec()),
        ("close", proto::encode(&close).to_vec()),
        ("both-families", proto::encode(&both).to_vec()),
        ("all-ones", vec![0xff; 96]),
        ("short", proto::encode(&open())[..40].to_vec()),
        ("v6-mapped", {
            let mut bytes = with(6, 128);
            bytes[28..44].copy_from_slice(
                &"::ffff:192.0.2.1".parse::<std::net::Ipv6Addr>().map_or([0; 16], |a| a.octets()),
            );
            bytes
        }),
        ("nine-services", with(7, 9)),
        ("unknown-flag", with(2, 0x80)),
        ("version-2", with(0, 2)),
    ]
}

fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let p = profile();
    let door = Door::derive(p.server, &p.door);
    let keys = ClientKeys::derive(p.server, &p.key, p.id.0);
    let sealed = proto::seal(&open(), p.id, p.server, &door, &keys, &[9; 24]).to_vec();
    let mut bent = sealed.clone();
    bent[100] ^= 1;
    let mut plain = proto::encode(&open()).to_vec();
    let reply = [&[1, 1, 0, 0][..], &[0; 16], &[2, 32, 0, 0, 192, 0, 2, 1]].concat();
    let mut seeds = vec![
        ("datagram", sealed.clone()),
        ("datagram-bent", bent),
        ("datagram-short", sealed[..287].to_vec()),
        ("datagram-zeros", vec![0; 288]),
        ("plain", plain.clone()),
        ("reply", [reply, vec![0; 188]].concat()),
        ("empty", vec![]),
    ];
    plain.resize(204, 0);
    seeds.push(("plain-with-zeros", plain.clone()));
    plain[203] = 1;
    seeds.push(("plain-with-a-tail", plain));
    seeds
}

fn claim() -> Claim {
    Claim {
        client: ClientId(profile().id.0),
        assurance: Assurance::Sealed,
        action: Action::Open,
        replace: false,
        addresses: [Some("192.0.2.1".parse().expect("a prefix")), None],
        services: services(&["tcp/22"]),
        time: Unix(1_790_000_000_000),
        until: Mono(1_030_000),
    }
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let p = profile();
    let access = Access::new(
        p.id,
        "alice",
        Terms {
            assurance: Assurance::Sealed,
            services: vec![ServiceId([1; 4]), ServiceId([2; 4])],
            ttl: 30,
            max_ttl: 28_800,
            max_leases: 16,
            sources: vec![
                "192.0.2.0/24".parse().expect("a net"),
                "2001:db8::/32".parse().expect("a net"),
            ],
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: Some(Unix(1_800_000_000_000)),
            uses: Some(1),
            hours: vec!["mon-fri 08:00-18:00".parse().expect("hours")],
        },
    );
    let service = Service {
        id: ServiceId([1; 4]),
        name: "ssh".into(),
        ports: vec!["tcp/22".parse().expect("a port"), "tcp/8000-8010".parse().expect("ports")],
        require: Some(Assurance::Sealed),
        on_expiry: OnExpiry::Cut,
        while_connected: Some(3_600),
        refuse: Refuse::Reset,
    };
    let begin =
        Begin { server: p.server, window: Window::default(), become_user: Some((990, 990)) };
    let close = Claim { action: Action::Close, replace: true, ..claim() };
    let ports = vec!["udp/41841".parse().expect("ports"), "tcp/7000-7009".parse().expect("ports")];
    let capture = Capturing { interface: Some("eth0".into()), mode: Mode::Spa, ports };
    let doors = [doors::frames(&access), hooks::frames()].concat();
    let list = [
        ("begin", Frame::Begin(begin)),
        ("door", Frame::Door(DoorKey::new(*p.door.bytes()))),
        ("service", Frame::Service(service)),
        ("own-v4", Frame::Own([192, 0, 2, 1].into())),
        ("own-v6", Frame::Own([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into())),
        ("client", Frame::Client(access, ClientKey::new(*p.key.bytes()))),
        ("remove", Frame::Remove(p.id)),
        ("end", Frame::End),
        ("listen", Frame::Listen(vec![Mode::Spa, Mode::Plain])),
        ("capture", Frame::Capture(capture)),
        ("closed", Frame::Decided(close)),
        ("ask", Frame::Ask),
        ("stop", Frame::Stop),
        ("grant", Frame::Grant(claim())),
        ("restore", Frame::Restore(claim())),
        ("restored", Frame::Restored(7)),
        ("counters", Frame::Counters([3; COUNTERS])),
    ];
    let mut seeds: Vec<(&str, Vec<u8>)> =
        list.iter().chain(&doors).map(|(name, f)| (*name, frame::encode(f, 5).to_vec())).collect();
    let mut long = seeds[2].1.clone();
    long[12] = 255;
    seeds.push(("name-too-long", long));
    seeds.push(("all-ones", vec![0xff; 512]));
    seeds
}

fn journals() -> Vec<(&'static str, Vec<u8>)> {
    let client = profile().id;
    let boot = |id| Record::Boot { id: [id; 16], started: Mono(500_000), whole: true, more: 0 };
    let time = |ms: i64| Unix(1_790_000_000_000u64.saturating_add_signed(ms));
    let seen = |n: u8, ms| Record::Seen { client, time: time(ms), proof: [n; 16] };
    let close = Claim { action: Action::Close, until: Mono(1_040_000), ..claim() };
    let list = |id| {
        let start = [boot(id), Record::Floor(time(-200_000)), Record::Horizon(time(5_000))];
        let rest = [
            seen(1, -3_000),
            Record::Granted(claim()),
            seen(2, -100_000),
            Record::Closed(close),
            Record::Used { client, count: 2 },
            Record::Clean,
        ];
        [&start[..], &rest].concat()
    };
    let write = |how: u8, records: &[Record], first: u64| {
        let slots =
            records.iter().enumerate().map(|(i, r)| encode(r, first.wrapping_add(i as u64)));
        [vec![how], slots.collect::<Vec<[u8; SLOT]>>().concat()].concat()
    };
    let sound = write(0x80, &list(1), 0);
    let mut hole = sound.clone();
    hole[1 + 3 * SLOT..1 + 4 * SLOT].fill(0);
    let mut unknown = sound.clone();
    (unknown[1], unknown[6]) = (1, 77);
    let far = [
        boot(1),
        Record::Horizon(Unix(u64::MAX)),
        Record::Seen { client, time: Unix(u64::MAX), proof: [1; 16] },
        Record::Floor(Unix(u64::MAX)),
    ];
    let nobody = Claim { addresses: [None, None], client: ClientId([0; 8]), ..claim() };
    vec![
        ("hooks", write(0x80, &[&[boot(1)][..], &hooks::records()].concat(), 0)),
        ("sound", sound.clone()),
        ("two-segments", write(0x81, &list(1), 7)),
        ("other-boot", write(0x80, &list(9), 0)),
        ("no-room", write(0, &list(1), 0)),
        ("torn", sound[..sound.len() - 50].to_vec()),
        ("torn-last-segment", [&[0x88], &sound[1..], &[1; 77][..]].concat()),
        ("hole", hole),
        ("unknown-kind", unknown),
        ("far-future", write(0x80, &far, 0)),
        ("last-sequence", write(0x80, &list(1), u64::MAX - 8)),
        ("last-number", write(0x84, &list(2), 0)),
        ("last-number-torn", write(0x88, &list(2), 0)),
        ("claims-of-nobody", write(0x80, &[boot(1), Record::Granted(nobody)], 0)),
        ("empty", vec![0]),
    ]
}
