//! What the end of a lease means for connections, and what connections mean for a lease.

use super::server::*;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(1_500);

/// Sends back what it gets, over TCP and over UDP.
fn echo(server: &Server, port: u16) -> Guard {
    let code = format!(
        "import socket,threading\n\
         u=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM);u.setsockopt(41,26,0);u.bind(('::',{port}))\n\
         t=socket.create_server(('::',{port}),family=socket.AF_INET6,dualstack_ipv6=True)\n\
         def datagrams():\n while True:\n  d,a=u.recvfrom(99);u.sendto(d,a)\n\
         def session(c):\n\
         \x20try:\n  while True:\n   d=c.recv(99)\n   if not d: break\n   c.sendall(d)\n\
         \x20except OSError: pass\n c.close()\n\
         threading.Thread(target=datagrams,daemon=True).start()\n\
         print('up',flush=True)\n\
         while True: threading.Thread(target=session,args=(t.accept()[0],),daemon=True).start()\n"
    );
    let mut command = server.world.command(SERVER, "python3");
    let mut child = command.args(["-c", &code]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    Guard(child)
}

/// alice, for three seconds if she does not say, with these words in [service.ssh] as well.
fn server(backend: &str, words: &str) -> Option<Server> {
    let mut server = Server::new(backend)?;
    server.edit("s/server.toml", |text| {
        let ports = format!("ports = [\"tcp/22\", \"udp/22\"]\n{words}");
        let named = "ports     = [\"tcp/22\"]";
        assert!(text.contains(named));
        text.replace(named, &ports)
    });
    server.amend("alice", "ttl = \"3s\"");
    server.invite("bob", &[]);
    let guard = echo(&server, 22);
    server.keep(guard);
    server.start();
    Some(server)
}

fn connect(server: &Server, host: &str, address: &str) -> TcpStream {
    let to = SocketAddr::new(address.parse().unwrap(), 22);
    let mut stream = server
        .world
        .enter(host, || TcpStream::connect_timeout(&to, Duration::from_secs(20)).unwrap());
    stream.set_read_timeout(Some(WAIT)).unwrap();
    assert!(lives(&mut stream));
    stream
}

/// Whether what is sent comes back.
fn lives(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 8];
    stream.write_all(b"x").is_ok() && stream.read(&mut bytes).is_ok_and(|n| n > 0)
}

fn talk(server: &Server) -> UdpSocket {
    server.world.enter(CLIENT, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((SERVER_V4, 22)).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    })
}

fn answers(socket: &UdpSocket) -> bool {
    let mut bytes = [0; 8];
    socket.send(b"x").is_ok() && socket.recv(&mut bytes).is_ok()
}

/// What connection tracking knows of the client.
fn tracked(server: &Server) -> String {
    let out = server.world.try_run(SERVER, &["conntrack", "-L", "-s", CLIENT_V4]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|l| l.contains("dport=22 ")).collect::<Vec<_>>().join("\n")
}

fn sockets(server: &Server) -> String {
    let of_alice = ["ss", "-Htn", "state", "established", "dst", CLIENT_V4];
    server.world.run(SERVER, &of_alice)
}

fn ends_what_runs(backend: &str) {
    let Some(server) = server(backend, "on-expiry = \"cut\"") else { return };
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    // Somebody who stays: another lease, on another address.
    server.send(STRANGER, &open_for(&server.profile("bob"), STRANGER_V4));
    server.becomes_open(STRANGER);
    let mut bob = connect(&server, STRANGER, SERVER_OF_STRANGER);
    server.open("alice", &["--for", "20s", SERVER_V4]);
    server.open("alice", &["--for", "20s", "[fd77:1::1]:41841"]);
    server.becomes_open(CLIENT);
    let mut alice = [connect(&server, CLIENT, SERVER_V4), connect(&server, CLIENT, SERVER_V6)];
    let datagrams = talk(&server);
    eventually("an answer", || answers(&datagrams));
    assert!(!tracked(&server).is_empty() && !sockets(&server).is_empty());
    // Closed: all of it is cut, and the peer hears of it.
    for to in [SERVER_V4, "[fd77:1::1]:41841"] {
        server.at(CLIENT, &["close", to, "--key", "alice.toml"]);
    }
    server.knows_leases(2); // bob's
    for stream in &mut alice {
        eventually("the session is over", || !lives(stream));
        let mut bytes = [0; 8];
        let end = stream.read(&mut bytes);
        let over = matches!(&end, Ok(0))
            || end.as_ref().is_err_and(|e| {
                matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
            });
        assert!(over, "in silence: {end:?}");
    }
    assert!(!answers(&datagrams));
    assert_eq!((tracked(&server), sockets(&server)), (String::new(), String::new()));
    assert!(lives(&mut bob));
    // A new lease wins over what was cut.
    server.open("alice", &["--for", "5s"]);
    server.becomes_open(CLIENT);
    let mut again = connect(&server, CLIENT, SERVER_V4);
    eventually("an answer", || answers(&datagrams));
    // The same by itself.
    eventually("the session is over", || !lives(&mut again));
    eventually("nothing is tracked", || !answers(&datagrams) && tracked(&server).is_empty());
    assert!(lives(&mut bob));
    server.says_all(&["cut address=10.77.1.2", "tcp/22"]);
}

#[test]
fn cut_ends_what_runs_with_nftables() {
    ends_what_runs("nftables");
}

#[test]
fn cut_ends_what_runs_with_iptables() {
    ends_what_runs("iptables");
}

#[test]
fn keep_keeps() {
    let Some(server) = server("nftables", "") else { return };
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    let mut alice = connect(&server, CLIENT, SERVER_V4);
    server.knows_leases(0);
    server.becomes_shut(CLIENT);
    assert!(lives(&mut alice));
}

/// Who comes from another address takes his lease along; what ran through the old one is cut.
#[test]
fn roaming_leaves_nothing_behind() {
    let Some(server) = server("nftables", "on-expiry = \"cut\"") else { return };
    let there = ["--for", "20s", "--ip", STRANGER_V4];
    server.open("alice", &there);
    server.becomes_open(STRANGER);
    let mut old = connect(&server, STRANGER, SERVER_OF_STRANGER);
    server.open("alice", &["--for", "20s", "--replace"]);
    server.becomes_open(CLIENT);
    eventually("the session is over", || !lives(&mut old));
    assert_eq!((server.tries(STRANGER), server.leases().len()), (Tried::Silence, 2));
    // A name with addresses of both families: the second packet does not end the first one's.
    server.edit("alice.toml", |text| text.replace("10.77.1.1:41841", "door:41841"));
    let hosts = server.path("hosts");
    std::fs::write(&hosts, "10.77.1.1 door\nfd77:1::1 door\n").unwrap();
    let bound = format!(
        "mount --bind {} /etc/hosts && exec {BIN} open --replace --for 20s --key alice.toml",
        hosts.display()
    );
    let mut command = server.world.command(CLIENT, "unshare");
    command.args(["--mount", "sh", "-c", &bound]).current_dir(server.path(""));
    assert!(command.status().unwrap().success());
    eventually("both families", || server.leases().len() == 4);
}

/// An [engine] that begins again says all that it remembers: nobody who is here is cut by it.
#[test]
fn an_engine_that_comes_back_cuts_nobody() {
    let Some(mut server) = server("nftables", "on-expiry = \"cut\"") else { return };
    server.open("alice", &["--for", "10m", "--replace", "--ip", STRANGER_V4]);
    server.becomes_open(STRANGER);
    server.open("alice", &["--for", "10m", "--replace"]);
    server.becomes_open(CLIENT);
    server.becomes_shut(STRANGER);
    let mut alice = connect(&server, CLIENT, SERVER_V4);
    eventually("the old one is cut", || server.log().matches("cut address=").count() == 2);
    kill("KILL", &[server.pids().1]);
    server.wait_engine();
    server.open("bob", &["--ip", "10.88.0.1"]);
    server.knows_leases(4);
    assert!(lives(&mut alice));
    assert!(!server.log().contains(&format!("cut address={CLIENT_V4}")));
    assert_eq!(server.tries(STRANGER), Tried::Silence);
}

/// A prefix: those who came through it are cut, and an address of it that has its own lease is not.
#[test]
fn a_wide_lease_cuts_who_came_by_it() {
    let Some(server) = server("nftables", "on-expiry = \"cut\"") else { return };
    server.invite("net", &[]);
    server.amend("net", "max-prefix-v4 = 16");
    eventually("reloaded", || server.log().contains("reloaded"));
    server.send(CLIENT, &open_for(&server.profile("net"), "10.77.0.0/16"));
    server.send(STRANGER, &open_for(&server.profile("bob"), STRANGER_V4));
    server.becomes_open(CLIENT);
    server.becomes_open(STRANGER);
    let mut through = connect(&server, CLIENT, SERVER_V4);
    let mut own = connect(&server, STRANGER, SERVER_OF_STRANGER);
    server.order(&["revoke", "net"]);
    eventually("the session is over", || !lives(&mut through));
    assert!(lives(&mut own));
    assert_eq!(server.tries(CLIENT), Tried::Silence);
}

#[test]
fn what_ended_while_nobody_was_there_is_cut_at_the_next_start() {
    let Some(mut server) = server("nftables", "on-expiry = \"cut\"") else { return };
    server.open("alice", &["--for", "4s"]);
    server.becomes_open(CLIENT);
    let mut alice = connect(&server, CLIENT, SERVER_V4);
    server.crash();
    std::thread::sleep(Duration::from_secs(5));
    assert!(lives(&mut alice), "nobody was there to cut it");
    server.start();
    eventually("the session is over", || !lives(&mut alice));
}

#[test]
fn a_lease_goes_on_while_a_connection_lives_and_not_for_ever() {
    let words = "on-expiry = \"cut\"\nwhile-connected = \"24s\"";
    let Some(mut server) = server("nftables", words) else { return };
    let start = moment();
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    let mut alice = connect(&server, CLIENT, SERVER_V4);
    while start.elapsed() < Duration::from_secs(7) {
        assert!(lives(&mut alice));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!((server.tries(CLIENT), server.leases().len()), (Tried::Open, 1));
    // A restart knows that it goes on, also if it would have ended meanwhile.
    server.crash();
    std::thread::sleep(Duration::from_secs(4));
    server.start();
    assert!(lives(&mut alice));
    eventually("the cap", || !lives(&mut alice));
    assert!(start.elapsed() > Duration::from_secs(20), "{:?}", start.elapsed());
    server.knows_leases(0);
    // Who is not connected has his three seconds.
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    server.knows_leases(0);
    server.becomes_shut(CLIENT);
}
