//! Who would have been dropped, out of `ipset save` (ipset(8)): pure.

use super::{Element, Error, Family};
use crate::access::{Ports, Prefix, Protocol};
use std::net::IpAddr;

/// The elements of a family's set; a line that is something else is an error.
pub(super) fn read(family: Family, saved: &str) -> Result<Vec<Element>, Error> {
    let (create, add) = (format!("create {} ", family.seen()), format!("add {} ", family.seen()));
    let mut out = Vec::new();
    for line in saved.lines().filter(|l| !l.starts_with(&create)) {
        let element = line.strip_prefix(&add).and_then(|rest| element(family, rest));
        out.push(element.ok_or_else(|| {
            let line: String = line.chars().take(100).collect();
            Error::Refused(format!("ipset save {}: not understood: {line}", family.seen()))
        })?);
    }
    Ok(out)
}

/// `192.0.2.1,tcp:22 timeout 57`.
fn element(family: Family, text: &str) -> Option<Element> {
    let (key, timeout) = text.split_once(" timeout ")?;
    timeout.trim_end().parse::<u32>().ok()?;
    let (from, to) = key.split_once(',')?;
    let (protocol, port) = to.split_once(':')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let (from, port): (IpAddr, u16) = (from.parse().ok()?, port.parse().ok()?);
    let from = Some(from).filter(|from| family.is(*from)).map(Prefix::host)?;
    Some(Element { from, to: Ports::new(protocol, port, port)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_and_port_is_read_and_nothing_else() {
        let create = "create opensesame6-seen hash:ip,port family inet6 hashsize 1024 timeout 60\n";
        let saved = format!(
            "{create}add opensesame6-seen 2001:db8::1,tcp:22 timeout 60\n\
             add opensesame6-seen 2001:db8::2,udp:53 timeout 1\n"
        );
        let shown: Vec<String> = read(Family::V6, &saved)
            .unwrap()
            .iter()
            .map(|e| format!("{} {}", e.from, e.to))
            .collect();
        assert_eq!(shown, ["2001:db8::1 tcp/22", "2001:db8::2 udp/53"]);
        assert_eq!(read(Family::V6, create), Ok(Vec::new()));
        for bad in [
            "add opensesame6-seen 2001:db8::1,tcp:22",
            "add opensesame6-seen 192.0.2.1,tcp:22 timeout 3",
            "add opensesame6-seen 2001:db8::1,icmp:8/0 timeout 3",
            "add opensesame6-seen 2001:db8::1,tcp:0 timeout 3",
            "add opensesame4-seen 2001:db8::1,tcp:22 timeout 3",
            "add opensesame6-seen 2001:db8::1 timeout 3",
            "no",
        ] {
            let why = read(Family::V6, bad).unwrap_err().to_string();
            assert!(why.contains(bad), "{why}");
        }
    }
}
