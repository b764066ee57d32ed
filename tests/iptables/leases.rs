//! Datagrams and scans; what else may pass, and for how long, is in the conformance suite.

use super::*;
use socket2::{Domain, Socket, Type};

/// A protected UDP port, and the server's own, which conntrack does not see.
pub(crate) fn datagrams(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&[]).unwrap();
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
