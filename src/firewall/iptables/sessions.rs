//! TCP sessions that are older than the shield, asked from the kernel by sock_diag(7).

use super::Session;
use crate::access::Ports;
use netlink_bindings::inet_diag::{ReqV2, Request};
use netlink_socket2::NetlinkSocket;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bits of the states in which a session has begun and still may exchange packets: ESTABLISHED
/// 1, FIN_WAIT1 4, FIN_WAIT2 5, CLOSE_WAIT 8, LAST_ACK 9, CLOSING 11 (Linux `tcp_states.h`).
const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

const FAMILIES: [i32; 2] = [nix::libc::AF_INET, nix::libc::AF_INET6];

/// The sessions on these ports of this network namespace.
///
/// # Errors
/// When the kernel does not answer.
pub(super) fn read(protected: &[Ports]) -> io::Result<Vec<Session>> {
    let mut socket = NetlinkSocket::new();
    let mut out = Vec::new();
    for family in FAMILIES {
        let header = ReqV2 {
            family: family as u8,
            protocol: nix::libc::IPPROTO_TCP as u8,
            states: STATES,
            ..ReqV2::default()
        };
        let request = Request::new().op_tcp_diag_dump(&header);
        let mut replies = socket.request(&request)?;
        while let Some(reply) = replies.recv() {
            let (message, _) = reply.map_err(|e| io::Error::other(e.to_string()))?;
            let v6 = i32::from(message.family) == nix::libc::AF_INET6;
            let id = &message.sockid;
            let (from, to) = (address(v6, &id.dst), address(v6, &id.src));
            let port = id.sport();
            if protected.iter().any(|p| p.first() <= port && port <= p.last()) {
                out.push(Session {
                    from: SocketAddr::new(from, id.dport()),
                    to: SocketAddr::new(to, port),
                });
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// An address of the kernel's 16 bytes; one that is v4-mapped as the IPv4 address that it is.
fn address(v6: bool, bytes: &[u8; 16]) -> IpAddr {
    match v6 {
        true => IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical(),
        false => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Protocol;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn an_established_session_is_seen_with_both_its_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _server = listener.accept().unwrap();
        let session =
            Session { from: stream.local_addr().unwrap(), to: stream.peer_addr().unwrap() };
        let port = session.to.port();
        let ports = Ports::new(Protocol::Tcp, port, port).unwrap();
        assert_eq!(read(&[ports]).unwrap(), [session]);
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn a_mapped_address_is_shown_as_what_it_is() {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
        assert_eq!(address(true, &bytes).to_string(), "192.0.2.1");
        assert_eq!(
            address(false, &[192, 0, 2, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]).to_string(),
            "192.0.2.1"
        );
    }
}
