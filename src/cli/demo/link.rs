//! Cables and addresses, over netlink: what `ip link` and `ip address` would do (rtnetlink(7)).

use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_bindings::rt_link::{self, IfinfoFlags, Ifinfomsg, PushLinkAttrs};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};
use netlink_socket2::NetlinkSocket;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::AddressFamily;
use std::fs;
use std::io;
use std::net::IpAddr;

/// IFLA_INFO_DATA (linux/if_link.h): what only this kind of link understands.
const INFO_DATA: u16 = 2;
/// VETH_INFO_PEER (linux/veth.h): an ifinfomsg and attributes, for the other end.
const VETH_PEER: u16 = 1;
/// IFA_F_NODAD (linux/if_addr.h): usable at once, nobody else is on the cable.
const NODAD: u8 = 0x02;

/// Makes a veth pair: `near` is here, `far` is in the network namespace of the process `pid`.
pub(super) fn cable(near: &str, far: &str, pid: u32) -> io::Result<()> {
    let mut peer = Ifinfomsg::new().as_slice().to_vec();
    PushLinkAttrs::new(&mut peer).push_ifname_bytes(far.as_bytes()).push_net_ns_pid(pid);

    let request = rt_link::Request::new().set_create().set_excl();
    let mut link = request.op_newlink_do(&Ifinfomsg::new());
    let mut info =
        link.encode().push_ifname_bytes(near.as_bytes()).nested_linkinfo().push_kind(c"veth");
    let message = info.as_vec_mut();
    let data = push_nested_header(message, INFO_DATA);
    push_header(message, VETH_PEER, peer.len() as u16);
    message.extend(peer);
    finalize_nested_header(message, data);
    drop(info);
    NetlinkSocket::new().request(&link)?.recv_ack()?;
    Ok(())
}

/// Switches a link on.
pub(super) fn up(name: &str) -> io::Result<()> {
    let flag = IfinfoFlags::Up as u32;
    let header = Ifinfomsg {
        ifi_index: index(name)? as i32,
        ifi_flags: flag,
        ifi_change: flag,
        ..Default::default()
    };
    let request = rt_link::Request::new().op_setlink_do(&header);
    NetlinkSocket::new().request(&request)?.recv_ack()?;
    Ok(())
}

/// Gives a link an address: /24 for IPv4, /64 for IPv6, without duplicate address detection.
pub(super) fn address(name: &str, address: IpAddr) -> io::Result<()> {
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 24),
        IpAddr::V6(_) => (AddressFamily::Inet6, 64),
    };
    let header = Ifaddrmsg {
        ifa_family: family as u8,
        ifa_prefixlen: length,
        ifa_flags: if address.is_ipv6() { NODAD } else { 0 },
        ifa_index: index(name)?,
        ..Default::default()
    };
    let mut request = rt_addr::Request::new().set_create().op_newaddr_do(&header);
    request.encode().push_local(address).push_address(address);
    NetlinkSocket::new().request(&request)?.recv_ack()?;
    Ok(())
}

/// Loopback on, and IPv6 on in this namespace even where the machine has switched it off.
pub(super) fn loopback() -> io::Result<()> {
    for which in ["all", "default"] {
        // No such file: a kernel without IPv6. Read-only: then what it says already must do.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "0");
    }
    up("lo")
}

fn index(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}
