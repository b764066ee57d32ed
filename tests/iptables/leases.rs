//! Datagrams and scans; what else may pass, and for how long, is in the conformance suite.

use super::*;

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
