//! Hosts behind the server: to which it routes, and to which a port of its own leads on.

use super::*;
use opensesame_spa::firewall::{Form, Forward, Routed};

const INNER: &str = "inner";
/// The server's and the host's end of the link, with how long their networks are.
const LINK: [[&str; 2]; 2] = [["10.77.3.1/24", "fd77:3::1/64"], ["10.77.3.2/24", "fd77:3::2/64"]];
const INNER_V4: &str = "10.77.3.2";
const INNER_V6: &str = "fd77:3::2";
const INNERS: [&str; 2] = [INNER_V4, INNER_V6];

/// A host behind the server, which routes to it; gone with this value.
struct Behind {
    name: String,
}

impl Behind {
    fn new(world: &World) -> Behind {
        let behind = Behind { name: world.name(INNER) };
        let add = Command::new("ip").args(["netns", "add", &behind.name]).status();
        assert!(add.unwrap().success());
        let veth = "link add to-inner type veth peer name eth0 netns";
        let argv: Vec<&str> = ["ip"].into_iter().chain(veth.split(' ')).collect();
        world.run(SERVER, &[&argv[..], &[&behind.name]].concat());
        for (host, device, ends) in [(SERVER, "to-inner", LINK[0]), (INNER, "eth0", LINK[1])] {
            world.run(host, &["ip", "addr", "add", ends[0], "dev", device]);
            world.run(host, &["ip", "-6", "addr", "add", ends[1], "dev", device, "nodad"]);
            world.run(host, &["ip", "link", "set", device, "up"]);
        }
        for (family, end) in ["-4", "-6"].into_iter().zip(LINK[0]) {
            let gateway = end.split('/').next().unwrap();
            world.run(INNER, &["ip", family, "route", "add", "default", "via", gateway]);
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
                       echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        world.run(SERVER, &["sh", "-c", forward]);
        behind
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn listen(world: &World, host: &str, port: u16) -> TcpListener {
    let listener = world.enter(host, || TcpListener::bind(("::", port))).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Ports of other hosts are shut as those of this one are, and no more than what was named.
pub(crate) fn routed(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _behind = Behind::new(&world);
    foreign(&world, kind);
    let before = (saved(&world, kind), sets(&world));
    let inside = [7500, 7501].map(|port| listen(&world, INNER, port));
    let _here = listen(&world, SERVER, 7500);
    let servers = [(SERVER_V4, INNER_V4), (SERVER_V6, INNER_V6)];
    for inner in INNERS {
        open(&world, STRANGER, inner, 7500);
    }

    let ports: Ports = "tcp/7500".parse().unwrap();
    let at = [INNER_V4, "fd77:3::/64"].map(|at| at.parse().unwrap());
    let routed = at.map(|at| Routed { at, ports, refuse: Refuse::Drop });
    let strict = Shield { routed: routed.to_vec(), ..shield() };
    let mut wall = Wall::of(&world, &strict, kind.options());
    wall.sync(&[]).unwrap();
    all_shut(&world, &[CLIENT, STRANGER], INNERS, 7500);
    for (server, inner) in servers {
        open(&world, STRANGER, inner, 7501);
        open(&world, STRANGER, server, 7500);
    }
    let leases = |seconds| [CLIENT_V4, CLIENT_V6].map(|from| opening(from, "tcp/7500", seconds));
    wall.open(&leases(60)).unwrap();
    for inner in INNERS {
        open(&world, CLIENT, inner, 7500);
    }
    all_shut(&world, &[STRANGER], INNERS, 7500);
    wall.with(|b, now| b.close(&[leases(0)[0].element], now)).unwrap();
    shut(&world, CLIENT, INNER_V4, 7500);
    open(&world, CLIENT, INNER_V6, 7500);
    wall.open(&leases(3)).unwrap();
    open(&world, CLIENT, INNER_V4, 7500);
    ends(&world, CLIENT, INNERS, 7500);

    // Who comes by an interface that is trusted is not judged.
    let trusting = Shield { trusted: vec!["to-stranger".to_string()], ..strict };
    let mut wall = Wall::of(&world, &trusting, kind.options());
    wall.sync(&[]).unwrap();
    for (server, inner) in servers {
        open(&world, STRANGER, inner, 7500);
        // Nothing listens there, so a packet that is let in is answered.
        assert_eq!(world.connect(STRANGER, server, PORT), Tried::Refused);
    }
    all_shut(&world, &[CLIENT], INNERS, 7500);
    all_shut(&world, &[CLIENT], SERVERS, PORT);
    wall.with(|b, _| b.uninstall()).unwrap();
    assert_eq!((saved(&world, kind), sets(&world)), before);
    drop(inside);
}

/// The other end of a connection, which that listener has got; those before it are forgotten.
fn accepted(listener: &TcpListener, near: &TcpStream) -> TcpStream {
    let (end, port) = (now().mono.plus(10_000), near.local_addr().unwrap().port());
    loop {
        match listener.accept() {
            Ok((far, peer)) if peer.port() == port => break far,
            Ok(_) => continue,
            Err(e) => assert!(now().mono < end, "somebody else has got it: {e}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A connection to the server's port, taken by the host behind it; it can be talked through.
fn led(world: &World, server: &str, inside: &TcpListener) -> [TcpStream; 2] {
    let mut near = reach(world, CLIENT, server, PORT).expect("led on");
    let mut far = accepted(inside, &near);
    far.set_nonblocking(false).unwrap();
    talk(&mut near, &mut far);
    [near, far]
}

fn talk(near: &mut TcpStream, far: &mut TcpStream) {
    let mut heard = [0; 5];
    near.set_read_timeout(Some(LONG)).unwrap();
    far.write_all(b"inner").unwrap();
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"inner");
}

/// A port leads on to another host for who holds a lease, and for nobody else.
pub(crate) fn forward(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _behind = Behind::new(&world);
    foreign(&world, kind);
    for (v6, to) in [(false, "10.77.3.2:9"), (true, "[fd77:3::2]:9")] {
        let rule =
            format!("*nat\n-A PREROUTING -p tcp -m tcp --dport 9 -j DNAT --to {to}\nCOMMIT\n");
        feed(&world, &[&kind.tool(v6, "-restore"), "-w", "20", "--noflush"], &rule);
    }
    let before = (saved(&world, kind), sets(&world));
    let inside = listen(&world, INNER, 22);
    // What stands at the port here: strangers are not to reach it either.
    let here = listen(&world, SERVER, PORT);

    let from = "tcp/7000".parse().unwrap();
    let to = [format!("{INNER_V4}:22"), format!("[{INNER_V6}]:22")];
    let forwards = to.map(|to| Forward { from, to: to.parse().unwrap() }).to_vec();
    let leading = Shield { forwards, ..shield() };
    let mut wall = Wall::of(&world, &leading, kind.options());
    wall.sync(&[]).unwrap();
    all_shut(&world, &[CLIENT, STRANGER], SERVERS, PORT);
    let [v4, v6] = both(60);
    wall.open(&[v4, opening("fd77:1::/64", "tcp/7000", 60)]).unwrap();
    for server in SERVERS {
        led(&world, server, &inside);
    }
    all_shut(&world, &[STRANGER], SERVERS, PORT);
    assert_eq!(here.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    // A lease that fits into no set, and what a sync puts back.
    wall.sync(&[opening(CLIENT_V4, "tcp/7000-7099", 60)]).unwrap();
    led(&world, SERVER_V4, &inside);
    shut(&world, CLIENT, SERVER_V6, PORT);
    world.run(SERVER, &[&kind.tool(false, ""), "-w", "20", "-t", "nat", "-F", "PREROUTING"]);
    wall.sync(&[v4]).unwrap();
    led(&world, SERVER_V4, &inside);
    let rule =
        ["-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "DNAT", "--to", "10.77.3.2:9"];
    world.run(SERVER, &[&[&kind.tool(false, ""), "-w", "20", "-t", "nat"], &rule[..]].concat());

    // What is closed is not led on any more; what ends by itself is not either, and its
    // connections live.
    wall.with(|b, now| b.close(&[v4.element, v6.element], now)).unwrap();
    shut(&world, CLIENT, SERVER_V4, PORT);
    wall.open(&both(3)).unwrap();
    let mut pairs = SERVERS.map(|server| led(&world, server, &inside));
    ends(&world, CLIENT, SERVERS, PORT);
    for [near, far] in &mut pairs {
        talk(near, far);
    }

    // Where nothing of ours drops, strangers are not led on either.
    let mut pinhole =
        Wall::of(&world, &Shield { form: Form::Mark(1 << 30), ..leading }, kind.options());
    pinhole.sync(&both(60)).unwrap();
    for server in SERVERS {
        led(&world, server, &inside);
        let near = reach(&world, STRANGER, server, PORT).expect("nothing drops");
        accepted(&here, &near);
    }
    assert!(inside.accept().is_err());

    wall.with(|b, _| b.uninstall()).unwrap();
    assert_eq!((saved(&world, kind), sets(&world)), before);

    // A run that leads nowhere takes away what one before it has left.
    wall.sync(&[]).unwrap();
    let nat = |world| {
        let save = world_save(world, kind);
        count(&save, "-A PREROUTING -j OPENSESAME")
    };
    assert_eq!(nat(&world), 2);
    Wall::new(&world, kind.options()).sync(&[]).unwrap();
    assert_eq!(nat(&world), 0);
}

fn world_save(world: &World, kind: Kind) -> String {
    [false, true].map(|v6| world.run(SERVER, &[&kind.tool(v6, "-save"), "-t", "nat"])).concat()
}
