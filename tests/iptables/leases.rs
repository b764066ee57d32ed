//! What may pass the shield, and for how long.

use super::*;
use socket2::{Domain, Socket, Type};

/// Shut, open for one, closed, and gone without a trace.
pub(crate) fn life(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    foreign(&world, kind);
    let before = (saved(&world, kind), sets(&world));
    let _up = [PORT, 7105, 7300].map(|port| world.listen(port));
    open(&world, STRANGER, SERVER_V4, PORT);

    let mut wall = Wall::new(&world, kind.options());
    assert!(wall.backend.describe().contains(if kind.legacy { "legacy" } else { "nf_tables" }));
    assert_eq!(wall.backend.describe().contains("ipset v"), kind.ipset);
    assert!(wall.open(&both(60)).is_err(), "nothing is opened before the first sync");
    wall.sync(&[]).unwrap();
    for (server, _, _) in BOTH {
        shut(&world, CLIENT, server, PORT);
        shut(&world, STRANGER, server, PORT);
        open(&world, SERVER, server, PORT);
    }
    open(&world, SERVER, "127.0.0.1", PORT);
    open(&world, SERVER, "::1", PORT);

    let wide = [
        opening("10.77.1.0/24", "tcp/7105-7110", 60),
        opening("fd77:1::/64", "tcp/7105", 60),
        opening(CLIENT_V4, "tcp/7200-7400", 60),
        opening(CLIENT_V6, "tcp/7200-7400", 60),
    ];
    wall.open(&both(60)).unwrap();
    wall.open(&wide).unwrap();
    for (server, _, _) in BOTH {
        for port in [PORT, 7105, 7300] {
            open(&world, CLIENT, server, port);
        }
    }
    for (server, port) in [(SERVER_V4, PORT), (SERVER_V6, 7105), (SERVER_V4, 7300)] {
        shut(&world, STRANGER, server, port);
    }

    let [v4, v6] = both(60);
    wall.with(|b, now| b.close(&[v4.element, wide[2].element], now)).unwrap();
    shut(&world, CLIENT, SERVER_V4, PORT);
    shut(&world, CLIENT, SERVER_V4, 7300);
    open(&world, CLIENT, SERVER_V4, 7105);
    open(&world, CLIENT, SERVER_V6, PORT);
    let unknown = element("192.0.2.1", "tcp/7000-7010");
    wall.with(|b, now| b.close(&[v4.element, unknown], now)).unwrap();
    wall.sync(&[v6]).unwrap();
    open(&world, CLIENT, SERVER_V6, PORT);
    shut(&world, CLIENT, SERVER_V4, 7105);

    datagrams(&world, &mut wall);

    wall.with(|b, _| b.uninstall()).unwrap();
    open(&world, STRANGER, SERVER_V4, PORT);
    open(&world, STRANGER, SERVER_V6, PORT);
    assert_eq!((saved(&world, kind), sets(&world)), before);
    wall.with(|b, _| b.uninstall()).unwrap();
}

/// A protected UDP port, and the server's own, which conntrack does not see.
fn datagrams(world: &World, wall: &mut Wall<'_>) {
    let sockets = [7000, 62201].map(|port| {
        let socket = world.enter(SERVER, || UdpSocket::bind(("::", port))).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    });
    let send = |host, text: &str, port| {
        let from = world.enter(host, || UdpSocket::bind("0.0.0.0:0")).unwrap();
        from.send_to(text.as_bytes(), (SERVER_V4, port)).unwrap();
    };
    let mut buffer = [0; 16];
    wall.open(&[opening(CLIENT_V4, "udp/7000", 60)]).unwrap();
    // Sent first and not heard, the stranger's is dropped and not late.
    send(STRANGER, "stranger", 7000);
    send(CLIENT, "client", 7000);
    let heard = sockets[0].recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..heard], b"client");
    send(STRANGER, "knock", 62201);
    let heard = sockets[1].recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..heard], b"knock");
    let tracked = world.run(SERVER, &["conntrack", "-L", "-p", "udp"]);
    assert_eq!((count(&tracked, "dport=7000"), count(&tracked, "dport=62201")), (1, 0));
}

/// The kernel ends a lease by itself, and not before its time.
pub(crate) fn expiry(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&[]).unwrap();
    let asked = now().mono;
    wall.open(&both(3)).unwrap();
    let opened = now().mono;
    drop(wall);
    for (server, _, _) in BOTH {
        open(&world, CLIENT, server, PORT);
    }
    loop {
        let begun = now().mono;
        let tried = world.connect(CLIENT, SERVER_V4, PORT);
        if tried == Tried::Silence {
            // The packet can be late, but the end cannot be half a second early.
            assert!(begun >= asked.plus(2_500), "ended after {} ms", begun.since(asked));
            break;
        }
        assert!(begun <= opened.plus(4_500), "still open after {} ms", begun.since(opened));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(opened.plus(4_100).since(now().mono)));
    for (server, _, _) in BOTH {
        shut(&world, CLIENT, server, PORT);
    }
}

/// Extensions, synchronisations and a restart, while the client keeps connecting.
pub(crate) fn seamless(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let listener = world.enter(SERVER, || TcpListener::bind(("::", PORT))).unwrap();
    let mut wall = Wall::new(&world, kind.options());
    // With many leases of others each change takes its time.
    let many = |seconds| {
        let others = (0..500).map(|n| format!("192.0.{}.{}", 2 + n / 250, 1 + n % 250));
        let others = others.map(|from| opening(&from, "tcp/7000", seconds));
        both(seconds).into_iter().chain(others).collect::<Vec<Opening>>()
    };
    wall.sync(&many(60)).unwrap();
    let over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let (world, over) = (&world, &over);
        // One connection at a time: no queue can be full.
        let client = scope.spawn(move || {
            world.enter(CLIENT, || {
                let mut made = 0;
                while !over.load(Ordering::Relaxed) {
                    let to = SocketAddr::new(BOTH[made % 2].0.parse().unwrap(), PORT);
                    TcpStream::connect_timeout(&to, LONG).expect("open all the time");
                    drop(listener.accept().unwrap());
                    made += 1;
                }
                made
            })
        });
        for round in 0..10 {
            wall.open(&both(60 + round)).unwrap();
        }
        let text = saved(world, kind);
        let held = match kind.ipset {
            true => sets(world).iter().filter(|s| s.contains(',') && !s.contains("old")).count(),
            false => count(&text, "-m time"),
        };
        assert_eq!(held, 502, "{text}");
        for round in 0..3 {
            wall.sync(&many(80 + round)).unwrap();
        }
        drop(wall);
        let mut next = Wall::new(world, kind.options());
        next.sync(&many(90)).unwrap();
        over.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    assert!(made > 10, "{made}");
    assert_eq!(repeated(&world, CLIENT), 0, "of {made}");
}

/// A session that conntrack has never seen goes on, and a new one does not come in.
pub(crate) fn older(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let listener = world.enter(SERVER, || TcpListener::bind(("::", PORT))).unwrap();
    let mut pairs = BOTH.map(|(server, _, _)| {
        let near = reach(&world, CLIENT, server, PORT).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_read_timeout(Some(LONG)).unwrap();
        far.set_read_timeout(Some(LONG)).unwrap();
        (near, far)
    });
    let mut talk = |when: &str| {
        for (near, far) in &mut pairs {
            let mut heard = [0; 4];
            near.write_all(b"ping").unwrap();
            far.read_exact(&mut heard).unwrap_or_else(|e| panic!("{when}: {e}"));
            far.write_all(&heard).unwrap();
            near.read_exact(&mut heard).unwrap_or_else(|e| panic!("{when}: {e}"));
        }
    };
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&[]).unwrap();
    talk("after the shield has come");
    wall.sync(&[]).unwrap();
    world.run(SERVER, &["conntrack", "-F"]);
    talk("after a second sync and with conntrack flushed");
    shut(&world, CLIENT, SERVER_V4, PORT);
    shut(&world, STRANGER, SERVER_V6, PORT);
}

/// Scans of a protected port say filtered, whatever the host's own rules do.
pub(crate) fn scan(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&both(300)).unwrap();
    let ways = [("-sS", "filtered"), ("-sA", "filtered"), ("-sF", "open|filtered")];
    for drop in [false, true] {
        if drop {
            world.run(SERVER, &[&kind.tool(false, ""), "-w", "20", "-P", "INPUT", "DROP"]);
        }
        std::thread::scope(|scope| {
            for (way, says) in ways {
                let world = &world;
                scope.spawn(move || {
                    let scan = ["nmap", way, "-Pn", "-n", "--max-retries", "2", "-p", "7000,7001"];
                    let text = world.run(STRANGER, &[&scan[..], &[SERVER_V4]].concat());
                    let state = |port: &str| {
                        let line = text.lines().find(|l| l.starts_with(port)).unwrap_or(&text);
                        line.split_whitespace().nth(1).unwrap_or_default().to_string()
                    };
                    assert_eq!(state("7000/tcp"), says, "{way} {text}");
                    // The port beside it tells the two hosts apart, so the scan can tell.
                    let beside = if way == "-sA" { "unfiltered" } else { "closed" };
                    let beside = if drop { says } else { beside };
                    assert_eq!(state("7001/tcp"), beside, "{way} {text}");
                });
            }
        });
    }
}

/// On a host without connection tracking the port is shut, and open for the client.
pub(crate) fn untracked(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    for v6 in [false, true] {
        let rules = "*raw\n-A PREROUTING -j CT --notrack\n-A OUTPUT -j CT --notrack\nCOMMIT\n";
        feed(&world, &[&kind.tool(v6, "-restore"), "-w", "20"], rules);
    }
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&both(300)).unwrap();
    for (server, _, _) in BOTH {
        shut(&world, STRANGER, server, PORT);
        let mut stream = reach(&world, CLIENT, server, PORT).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut hello = [0; 6];
        stream.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello\n");
    }
    assert_eq!(count(&world.run(SERVER, &["conntrack", "-L", "-p", "tcp"]), "dport"), 0);
}

/// What conntrack remembers of a session that was reset opens nothing.
pub(crate) fn remembered(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let listener = world.enter(SERVER, || TcpListener::bind(("::", PORT))).unwrap();
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&both(300)).unwrap();
    let connect = || {
        let to: SocketAddr = format!("{SERVER_V4}:{PORT}").parse().unwrap();
        let from: SocketAddr = format!("{CLIENT_V4}:40001").parse().unwrap();
        world.enter(CLIENT, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect_timeout(&to.into(), Duration::from_millis(900)).map(|()| socket)
        })
    };
    let mut theirs = connect().expect("with a lease");
    let ours = Socket::from(listener.accept().unwrap().0);
    ours.set_linger(Some(Duration::ZERO)).unwrap();
    drop(ours);
    theirs.set_read_timeout(Some(LONG)).unwrap();
    let reset = theirs.read(&mut [0]).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    drop(theirs);
    let [v4, _] = both(0);
    wall.with(|b, now| b.close(&[v4.element], now)).unwrap();
    let entries = world.run(SERVER, &["conntrack", "-L", "-p", "tcp"]);
    assert!(entries.contains("CLOSE") && entries.contains("sport=40001"), "{entries}");
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}
