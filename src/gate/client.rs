//! For whom a request is: the peer, or whom a named proxy names.

use crate::access::{Prefix, canonical};
use http::HeaderMap;
use std::net::IpAddr;

/// Whether that address is a named proxy.
pub(super) fn is_proxy(address: IpAddr, proxies: &[Prefix]) -> bool {
    let host = Prefix::host(address);
    proxies.iter().any(|p| p.contains(&host))
}

/// The address that answers for a request.
///
/// X-Forwarded-For counts only from a named proxy, and of it only the last address that is no
/// named proxy: what stands before that was written by strangers. None: a proxy that does not say
/// for whom it asks, in which case nobody can be held to anything.
pub(super) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[Prefix]) -> Option<IpAddr> {
    let peer = canonical(peer);
    if !is_proxy(peer, proxies) {
        return Some(peer);
    }
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        for name in line.to_str().ok()?.rsplit(',') {
            let address = canonical(name.trim().parse().ok()?);
            if !is_proxy(address, proxies) {
                return Some(address);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(peer: &str, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let proxies = ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        of(peer.parse().unwrap(), &headers, &proxies).map(|a| a.to_string())
    }

    #[test]
    fn a_stranger_answers_for_himself_whatever_he_says() {
        assert_eq!(who("192.0.2.1", &["203.0.113.9"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(who("::ffff:192.0.2.1", &[]).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn of_a_proxy_the_last_address_that_is_no_proxy_counts() {
        for (lines, wanted) in [
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["1.2.3.4, 203.0.113.9, 10.0.0.7"], Some("203.0.113.9")),
            (&["1.2.3.4", "203.0.113.9 , fd00::1"], Some("203.0.113.9")),
            (&["203.0.113.9", "10.0.0.7"], Some("203.0.113.9")),
            (&["nonsense, 203.0.113.9"], Some("203.0.113.9")),
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&["203.0.113.9, nonsense"], None),
            (&["203.0.113.9:80"], None),
            (&["203.0.113.9,"], None),
            (&["10.0.0.9"], None),
            (&[], None),
        ] {
            assert_eq!(who("10.0.0.1", lines).as_deref(), wanted, "{lines:?}");
        }
    }
}
