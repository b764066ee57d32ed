//! Transcripts of pfctl of FreeBSD 15.1 and OpenBSD 7.8; what only manual pages say is marked.

use super::*;
use crate::firewall::{Forward, Routed};

const ALTQ: &str = "No ALTQ support in kernel\nALTQ related functions disabled\n";

fn ports(text: &str) -> Ports {
    text.parse().unwrap()
}

#[test]
fn the_anchor_passes_its_tables_and_blocks_last() {
    let protected = vec![
        (ports("tcp/22"), Refuse::Drop),
        (ports("tcp/8000-8010"), Refuse::Reset),
        (ports("udp/51820"), Refuse::Drop),
    ];
    let mut wanted: BTreeSet<Ports> = protected.iter().map(|(p, _)| *p).collect();
    wanted.insert(ports("tcp/8003"));
    let mut shield = Shield { protected, ..Shield::default() };
    assert_eq!(
        rules(&shield, &wanted),
        r#"table <banned> persist
table <tcp_22> persist
table <tcp_8000_8010> persist
table <tcp_8003> persist
table <udp_51820> persist
pass in quick proto tcp from <tcp_22> to any port 22 flags S/SA keep state label "opensesame"
pass in quick proto tcp from <tcp_8000_8010> to any port 8000:8010 flags S/SA keep state label "opensesame"
pass in quick proto tcp from <tcp_8003> to any port 8003 flags S/SA keep state label "opensesame"
pass in quick proto udp from <udp_51820> to any port 51820 keep state label "opensesame"
block drop in quick on ! lo0 proto tcp from any to any port 22
block drop in quick on ! lo0 proto tcp from <banned> to any port 8000:8010
block return in quick on ! lo0 proto tcp from any to any port 8000:8010
block drop in quick on ! lo0 proto udp from any to any port 51820
"#
    );
    // Who admits blocks nobody.
    let passes = |text: &str| text.lines().filter(|l| l.starts_with("pass")).count();
    shield.form = Form::Mark(1);
    let text = rules(&shield, &wanted);
    assert_eq!((passes(&text), text.contains("block")), (4, false));
}

#[test]
fn a_port_of_other_hosts_is_judged_there_and_nowhere_else() {
    let at = ["10.0.0.0/24", "2001:db8::5"].map(|at| at.parse().unwrap());
    let place = |at| Routed { at, ports: ports("tcp/5000-5010"), refuse: Refuse::Drop };
    let shield = Shield {
        protected: vec![(ports("tcp/22"), Refuse::Drop)],
        routed: at.map(place).to_vec(),
        ..Shield::default()
    };
    let wanted = BTreeSet::from([ports("tcp/22"), ports("tcp/5003")]);
    assert_eq!(
        rules(&shield, &wanted),
        r#"table <banned> persist
table <tcp_22> persist
table <tcp_5003> persist
pass in quick proto tcp from <tcp_22> to any port 22 flags S/SA keep state label "opensesame"
pass in quick proto tcp from <tcp_5003> to 10.0.0.0/24 port 5003 flags S/SA keep state label "opensesame"
pass in quick proto tcp from <tcp_5003> to 2001:db8::5 port 5003 flags S/SA keep state label "opensesame"
block drop in quick on ! lo0 proto tcp from any to any port 22
block drop in quick on ! lo0 proto tcp from any to 10.0.0.0/24 port 5000:5010
block drop in quick on ! lo0 proto tcp from any to 2001:db8::5 port 5000:5010
"#
    );
}

#[test]
fn what_it_cannot_do_is_refused_with_a_way_out() {
    let from = ports("tcp/22");
    let forward = Forward { from, to: "10.0.0.5:22".parse().unwrap() };
    let chain = Form::Chain { table: "filter".into(), chain: "INPUT".into() };
    let plain = Shield::default;
    for (shield, said) in [
        (Shield { forwards: vec![forward], ..plain() }, "`rdr`"),
        (Shield { trusted: vec!["em1".into()], ..plain() }, "pass in quick on"),
        (Shield { form: chain, ..plain() }, "`chain`"),
        (Shield { observe: true, ..plain() }, "--observe"),
    ] {
        let why = can(&shield, System::MacOs).unwrap_err().to_string();
        assert!(why.contains(said) && why.contains("with pf"), "{why}");
    }
    assert_eq!(can(&Shield { form: Form::Mark(1), ..plain() }, System::MacOs), Ok(()));
    for system in [System::FreeBsd, System::OpenBsd] {
        assert_eq!(can(&Shield { forwards: vec![forward], ..plain() }, system), Ok(()));
    }
}

/// The grammar of rdr-to as FreeBSD 15.1 took it.
#[test]
fn a_port_that_leads_on_translates_where_it_passes() {
    let leads = |from: &str, to: &str| Forward { from: ports(from), to: to.parse().unwrap() };
    let shield = Shield {
        protected: ["tcp/22", "tcp/2222"].map(|p| (ports(p), Refuse::Drop)).to_vec(),
        forwards: vec![leads("tcp/2222", "10.0.0.5:22"), leads("tcp/2222", "[2001:db8::5]:23")],
        ..Shield::default()
    };
    let wanted: BTreeSet<Ports> = shield.protected.iter().map(|(p, _)| *p).collect();
    let text = rules(&shield, &wanted);
    let of: Vec<&str> =
        text.lines().filter(|l| l.starts_with("pass") && l.contains("2222")).collect();
    assert_eq!(
        of,
        [
            "pass in quick inet proto tcp from <tcp_2222> to any port 2222 flags S/SA \
             rdr-to 10.0.0.5 port 22 keep state label \"opensesame\"",
            "pass in quick inet6 proto tcp from <tcp_2222> to any port 2222 flags S/SA \
             rdr-to 2001:db8::5 port 23 keep state label \"opensesame\"",
        ]
    );
    assert!(text.contains("from <tcp_22> to any port 22 flags S/SA keep state"));
    assert!(text.contains("block drop in quick on ! lo0 proto tcp from any to any port 2222"));
}

#[test]
fn the_states_that_were_ended_are_counted() {
    for (said, count) in [
        ("killed 2 states from 1 sources and 0 destinations\n", Some(2)),
        ("killed 0 states from 1 sources and 0 destinations\n", Some(0)),
        ("killed 2 states\n", Some(2)),
        ("killed x states\n", None),
        ("killed 2\n", None),
        ("2 states\n", None),
        ("", None),
    ] {
        assert_eq!(killed(said), count, "{said}");
        assert_eq!(killed(&format!("{ALTQ}{said}")), count, "{said}");
    }
}

#[test]
fn addresses_go_in_and_come_out() {
    let prefixes = ["192.0.2.1", "198.51.100.0/24", "2001:db8::1", "2001:db8:1::/64"];
    let prefixes: BTreeSet<Prefix> = prefixes.map(|p| p.parse().unwrap()).into_iter().collect();
    let text = lines(prefixes.iter());
    assert_eq!(text, "192.0.2.1\n198.51.100.0/24\n2001:db8::1\n2001:db8:1::/64\n");
    let listing: String = text.lines().map(|l| format!("   {l}\n")).collect();
    assert_eq!(shown(&listing), Some(prefixes));
    assert_eq!(shown(""), Some(BTreeSet::new()));
    assert_eq!(shown("   !192.0.2.1\n"), None);
    assert_eq!(shown("   example.org\n"), None);
}

#[test]
fn counts_are_read_whatever_stands_around_them() {
    for (said, verb, counts) in [
        ("1/1 addresses added.\n", "added", Some((1, 1))),
        ("0/1 addresses added.\n", "added", Some((0, 1))),
        ("1 table created.\n2/2 addresses added.\n", "added", Some((2, 2))),
        ("0/1 addresses deleted.\n", "deleted", Some((0, 1))),
        ("1/2 addresses match.\n", "added", None),
        ("1/1 addresses deleted.\n", "added", None),
        ("x/1 addresses added.\n", "added", None),
        ("", "added", None),
    ] {
        assert_eq!(counted(said, verb), counts, "{said}");
        assert_eq!(counted(&format!("{ALTQ}{said}"), verb), counts, "{said}");
    }
}

/// The words of pfctl(8): no transcript has them.
#[test]
fn enabled_and_disabled_are_told_apart() {
    let on = "Status: Enabled for 0 days 00:10:12           Debug: Urgent\n\nState Table\n";
    assert_eq!(enabled(on), Some(true));
    assert_eq!(enabled("Status: Disabled                   Debug: Urgent\n"), Some(false));
    assert_eq!(enabled("Status: Disabled for 0 days 00:00:03\n"), Some(false));
    assert_eq!(enabled(ALTQ), None);
    assert_eq!(enabled(""), None);
}

#[test]
fn only_a_line_of_the_main_rules_that_evaluates_our_anchor_counts() {
    let there = |narrow: Option<&str>, earlier: Option<&str>| Reference::There {
        narrow: narrow.map(str::to_string),
        earlier: earlier.map(str::to_string),
    };
    for (rules, what) in [
        ("anchor \"opensesame\" all\n", there(None, None)),
        ("anchor \"opensesame\"\n", there(None, None)),
        ("anchor opensesame in quick all\n", there(None, None)),
        (
            "block drop all\nanchor \"opensesame/*\" all\nanchor \"opensesame\" all\n",
            there(None, None),
        ),
        ("", Reference::Missing),
        ("anchor \"opensesame/*\" all\n", Reference::Missing),
        ("anchor \"opensesame2\" all\n", Reference::Missing),
        ("anchor \"com.apple/*\" all\n", Reference::Missing),
        ("anchor \"opensesame\" out all\n", Reference::Missing),
        ("anchor \"outer\" all {\n  anchor \"opensesame\" all\n}\n", Reference::Missing),
        ("# anchor \"opensesame\" all\n", Reference::Missing),
        (
            "anchor \"opensesame\" on em0 all\n",
            there(Some("anchor \"opensesame\" on em0 all"), None),
        ),
        (
            "pass all flags S/SA keep state\npass in quick proto tcp from any to any port = ssh\n\
             anchor \"opensesame\" all\npass quick all\n",
            there(None, Some("pass in quick proto tcp from any to any port = ssh")),
        ),
    ] {
        assert_eq!(reference(rules), what, "{rules}");
    }
}

/// macOS was never run: the line is the one that others report.
#[test]
fn the_token_is_a_number_behind_its_word() {
    let said = format!("{ALTQ}pf enabled\nToken : 14430292917126382547\n");
    assert_eq!(token(&said), Some("14430292917126382547".to_string()));
    assert_eq!(token("pf enabled\n"), None);
    assert_eq!(token("Token : \n"), None);
    assert_eq!(token("Token : 12; rm\n"), None);
}

#[test]
fn only_tables_of_ours_are_named() {
    let listing = "banned\ntcp_22\nbruteforce\nudp_5000_5010\n";
    assert_eq!(named(listing).collect::<Vec<_>>(), [ports("tcp/22"), ports("udp/5000-5010")]);
}

#[test]
fn failures_say_what_to_do() {
    let told = |code, said: &str| refusal(Some(code), said).to_string();
    assert_eq!(refusal(Some(1), "pfctl: /dev/pf: Permission denied\n"), Error::Rights);
    let gone = "pfctl: /dev/pf: No such file or directory\n";
    assert!(told(1, gone).ends_with("load it, `kldload pf`"));
    assert!(told(255, "pfctl: Cannot allocate memory.\n").contains("set limit table-entries"));
    let bad = format!(
        "{ALTQ}stdin:1: syntax error\npfctl: Syntax error in config file: pf rules not loaded\n"
    );
    assert_eq!(
        told(1, &bad),
        "refused: pfctl ended with 1: stdin:1: syntax error; pfctl: Syntax error in config file: \
         pf rules not loaded"
    );
    let openbsd = "pfctl: Table does not exist\npfctl: DIOCSETLIMIT (states): Permission denied\n";
    assert_eq!(told(255, openbsd), "refused: pfctl ended with 255: pfctl: Table does not exist");
    assert_eq!(refusal(None, "").to_string(), "refused: pfctl ended with a signal: ");
}

#[test]
fn each_system_has_its_mend() {
    for system in [System::MacOs, System::FreeBsd, System::OpenBsd] {
        assert!(system.mend_disabled().contains("ports are open: run `"));
    }
}
