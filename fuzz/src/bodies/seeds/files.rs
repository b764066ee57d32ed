//! Files that an administrator or a user has written, and links.

use super::{TEST_CLIENT, profile};

/// `server.toml`.
pub fn configs() -> Vec<(&'static str, Vec<u8>)> {
    CONFIGS.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

const CONFIGS: [(&str, &str); 10] = [
    (
        "plain",
        "[firewall]\nbackend = \"nftables\"\n[[listen]]\nudp = \"[::]:41841\"\n[service.ssh]\nports = [\"tcp/22\"]\n",
    ),
    (
        "full",
        "[server]\nstate-dir = \"/var/lib/x\"\ncontrol = \"/run/x\"\nuser = \"x\"\npublic = \"example.org:41841\"\nallow-test-keys = true\n\
         [firewall]\nbackend = \"dry-run\"\n[[listen]]\nudp = \"0.0.0.0:41841\"\nmode = \"spa\"\n[[listen]]\nudp = \"[::1]:5\"\n\
         [service.a]\nports = [\"tcp/22\", \"tcp/20-30\", \"udp/53\"]\nrefuse = \"reset\"\nrequire = \"sealed\"\n\
         [service.b]\nports = [\"tcp/30-40\", \"udp/53\"]\nrefuse = \"drop\"\non-expiry = \"keep\"\n\
         [policy]\nservices = [\"a\"]\nttl = \"1m\"\nmax-ttl = \"8h\"\nmax-leases = 3\nmax-prefix-v4 = 24\nmax-prefix-v6 = 56\n\
         source-address = false\nmax-age = \"60s\"\nmax-future = \"1m 30s\"\n",
    ),
    (
        "all-ports",
        "[firewall]\nbackend = \"pf\"\n[[listen]]\nudp = \"[::]:1\"\n[service.all]\nports = [\"tcp/1-65535\", \"tcp/65535\", \"udp/65535\"]\n[service.b]\nports=[\"tcp/65534\"]\n",
    ),
    (
        "hooks",
        "[firewall]\nbackend = \"pf\"\n[[listen]]\nudp = \"[::]:1\"\n[service.s]\nports = [\"tcp/22\"]\n\
         on-open = [\"/bin/x\", \"--\", \"{client}\", \"{seconds}\"]\non-close = [\"/bin/x\", \"{name}\"]\n\
         [hook]\nuser = \"x\"\ntimeout = \"5s\"\n",
    ),
    (
        "no-such-service",
        "[firewall]\nbackend = \"iptables\"\n[[listen]]\nudp = \"[::]:1\"\n[service.s]\nports = [\"tcp/22\"]\n[policy]\nservices = [\"t\"]\n",
    ),
    (
        "ttl-0s",
        "[firewall]\nbackend = \"pf\"\n[[listen]]\nudp = \"[::]:1\"\n[service.s]\nports = [\"tcp/22\"]\n[policy]\nttl = \"0s\"\n",
    ),
    (
        "ttl-of-ages",
        "[firewall]\nbackend = \"pf\"\n[[listen]]\nudp = \"[::]:1\"\n[service.s]\nports = [\"tcp/22\"]\n[policy]\nttl = \"4000000000s\"\nmax-ttl = \"4000000001s\"\n",
    ),
    (
        "name-of-lines",
        "[firewall]\nbackend = \"pf\"\n[[listen]]\nudp = \"[::]:1\"\n[service.\"a\\nb\"]\nports = [\"tcp/22\"]\n",
    ),
    (
        "error-of-lines",
        "[firewall]\nbackend = \"a\\nb\"\n[policy]\nttl = \"a\\nb\"\nservices = [\"\\n\"]\n",
    ),
    (
        "deep",
        "a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ),
];

/// Clients' files on both sides, and links.
pub fn client_files() -> Vec<(&'static str, Vec<u8>)> {
    let p = profile();
    let (key, link) = (p.key.to_text(), p.to_link());
    let file = |rest: &str| format!("id = \"3031323334353637\"\nkey = \"{}\"\n{rest}", *key);
    let full = "services = [\"ssh\", \"web\"]\nttl = \"30s\"\nmax-ttl = \"1h 30m\"\nmax-leases = 2\nsources = [\"192.0.2.0/24\", \"::/0\"]\n\
                source-address = false\nmax-prefix-v4 = 24\nmax-prefix-v6 = 64\nexpires = \"2026-12-31T23:59:59Z\"\nuses = 1\n";
    let many = |all: &[(&str, &str)]| {
        let one = |(name, more): &(&str, &str)| {
            format!("[[client]]\nname = \"{name}\"\n{}\n", file(more))
        };
        all.iter().map(one).collect::<String>().into_bytes()
    };
    let host = |host: &str| TEST_CLIENT.replace("192.0.2.1:41841", host).into_bytes();
    vec![
        ("profile", TEST_CLIENT.as_bytes().to_vec()),
        (
            "profile-with-ports",
            TEST_CLIENT
                .replace("[client]", "ports = [\"tcp/22\", \"udp/1-9\"]\n[client]")
                .into_bytes(),
        ),
        ("profile-empty-host", host("")),
        ("profile-host-with-quote", host("a\\\"b\\n:1")),
        ("profile-host-with-at", host("a@b:1")),
        ("profile-name-with-at", TEST_CLIENT.replace("\"test\"", "\"a@b\"").into_bytes()),
        ("profile-name-with-line", TEST_CLIENT.replace("\"test\"", "\"a\\nb\"").into_bytes()),
        ("link", link.as_bytes().to_vec()),
        ("link-name-with-at", link.replace("test@", "a@b@").into_bytes()),
        ("link-cut", link.as_bytes()[..link.len() - 9].to_vec()),
        ("file", file("").into_bytes()),
        ("file-full", file(full).into_bytes()),
        ("file-part-of-a-second", file("expires = \"2026-12-31T23:59:59.5Z\"\n").into_bytes()),
        (
            "file-ttl-of-ages",
            file("ttl = \"3153686400s\"\nmax-ttl = \"4000000000s\"\n").into_bytes(),
        ),
        ("file-service-with-quote", file("services = [\"a\\\"b\"]\n").into_bytes()),
        ("file-key-as-ttl", file(&format!("ttl = \"{}\"\n", *key)).into_bytes()),
        ("file-key-as-expires", file(&format!("expires = \"{}\"\n", *key)).into_bytes()),
        ("file-key-as-source", file(&format!("sources = [\"{}\"]\n", *key)).into_bytes()),
        ("file-key-as-name", file(&format!("{} = 1\n", key.trim_end_matches('='))).into_bytes()),
        ("file-key-not-closed", file("").replace("=\"\n", "=\n").into_bytes()),
        ("many", many(&[("a", ""), ("b", "ttl = \"1m\"\n# his\n"), ("a", "uses = 2\n")])),
        ("many-with-a-head", [&b"ttl = \"1m\"\n\n"[..], &many(&[("a", ""), ("b", full)])].concat()),
        (
            "many-with-a-faulty-one",
            many(&[("a", "ttl = 5\n"), ("b", ""), ("c", "[[ client ]]#\n")]),
        ),
        ("many-with-a-long-string", many(&[("a", "ttl = \"\"\"\n"), ("b", "\"\"\"\n")])),
    ]
}
