//! The network side of a client: names, one datagram, and the wait for the door.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// Where a packet goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The name or address.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl Target {
    /// Reads `HOST:PORT`, `[ADDR]:PORT`, or a host alone with `port` as its port.
    #[must_use]
    pub fn parse(text: &str, port: Option<u16>) -> Option<Target> {
        let number = |t: &str| t.parse().ok().filter(|p| *p != 0);
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Target { host: address.to_string(), port: port? });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = match rest.strip_prefix(':') {
                Some(p) => number(p)?,
                None if rest.is_empty() => port?,
                None => return None,
            };
            return Some(Target { host: host.into(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, p)) => (host, number(p)?),
            None => (text, port?),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let good = !host.is_empty() && !host.starts_with('-') && host.bytes().all(fits);
        good.then(|| Target { host: host.into(), port })
    }
}

/// The addresses of a target, each once.
///
/// # Errors
/// When the name has none.
pub fn resolve(target: &Target) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> =
        (target.host.as_str(), target.port).to_socket_addrs()?.collect();
    found.sort_unstable();
    found.dedup();
    match found.is_empty() {
        true => Err(io::Error::other(format!("{} has no address", target.host))),
        false => Ok(found),
    }
}

pub(super) fn socket_to(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// The address that this machine would use to reach the target; nothing is sent.
///
/// # Errors
/// When there is no way to it.
pub fn outbound(to: SocketAddr) -> io::Result<IpAddr> {
    Ok(socket_to(to)?.local_addr()?.ip())
}

/// Sends the same datagram to each address of a name; how many could be sent.
///
/// # Errors
/// When not one of them could be.
pub fn send(to: &[SocketAddr], packet: &[u8]) -> io::Result<usize> {
    let mut last = io::Error::other("no address to send to");
    let mut sent = 0;
    for address in to {
        match socket_to(*address).and_then(|s| s.send(packet)) {
            Ok(_) => sent += 1,
            Err(e) => last = e,
        }
    }
    if sent == 0 { Err(last) } else { Ok(sent) }
}

/// Sends the same datagram to one address after the other until one of them answers; waits so long
/// for each.
///
/// # Errors
/// When it could be sent to none.
pub fn ask(to: &[SocketAddr], packet: &[u8], wait: Duration) -> io::Result<Option<Vec<u8>>> {
    let mut last = Err(io::Error::other("no address to send to"));
    for address in to {
        let answer = socket_to(*address).and_then(|socket| {
            socket.set_read_timeout(Some(wait))?;
            socket.send(packet)?;
            let mut bytes = [0; 512];
            Ok(socket.recv(&mut bytes).ok().map(|n| bytes[..n].to_vec()))
        });
        match answer {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => last = Ok(None),
            Err(e) if last.is_err() => last = Err(e),
            Err(_) => {}
        }
    }
    last
}

/// Tries TCP connections to any of the addresses until one answers; `left` says how much time
/// remains, and the wait ends when it says none.
pub fn wait_for(to: &[SocketAddr], left: impl Fn() -> Option<Duration>) -> Option<TcpStream> {
    let mut pause = Duration::from_millis(10);
    while let Some(rest) = left() {
        for address in to {
            let patience = rest.min(Duration::from_millis(500)).max(Duration::from_millis(1));
            if let Ok(stream) = TcpStream::connect_timeout(address, patience) {
                return Some(stream);
            }
        }
        std::thread::sleep(pause.min(rest));
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_host_and_port() {
        let parse = |t| Target::parse(t, Some(9)).map(|t| format!("{} {}", t.host, t.port));
        let good = [
            ("example.org", "example.org 9"),
            ("example.org:5", "example.org 5"),
            ("192.0.2.1", "192.0.2.1 9"),
            ("192.0.2.1:5", "192.0.2.1 5"),
            ("2001:db8::1", "2001:db8::1 9"),
            ("[2001:db8::1]", "2001:db8::1 9"),
            ("[2001:db8::1]:5", "2001:db8::1 5"),
        ];
        for (text, shown) in good {
            assert_eq!(parse(text).as_deref(), Some(shown), "{text}");
        }
        for text in ["", ":5", "a:0", "a:99999", "a b", "-x", "[::1", "[x]:5", "a:5:6", "http://a/"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Target::parse("example.org", None), None);
    }
}
