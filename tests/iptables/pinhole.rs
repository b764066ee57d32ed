//! Where the machine's own rules drop, and ours admit.

use super::*;
use opensesame_spa::firewall::Form;

/// The machine's own rules: what it has asked for, its neighbours, and nothing else.
fn walled(world: &World, kind: Kind, more: &str) {
    foreign(world, kind);
    for v6 in [false, true] {
        let rules = format!(
            "*filter\n:INPUT DROP [0:0]\n:user - [0:0]\n-A INPUT -i lo -j ACCEPT\n\
             -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A INPUT -p {} -j ACCEPT\n-A INPUT -j user\n{more}COMMIT\n",
            if v6 { "ipv6-icmp" } else { "icmp" }
        );
        feed(world, &[&kind.tool(v6, "-restore"), "-w", "20", "--noflush"], &rules);
    }
}

/// Shut, open for one, closed, and over by itself.
fn admits(world: &World, wall: &mut Wall<'_>) {
    all_shut(world, &[CLIENT, STRANGER], SERVERS, PORT);
    wall.open(&both(60)).unwrap();
    for server in SERVERS {
        open(world, CLIENT, server, PORT);
    }
    all_shut(world, &[STRANGER], SERVERS, PORT);
    // A lease is on one port, and this one is nobody's business.
    all_shut(world, &[CLIENT], SERVERS, 7001);
    let [v4, _] = both(0);
    wall.with(|b, now| b.close(&[v4.element], now)).unwrap();
    shut(world, CLIENT, SERVER_V4, PORT);
    wall.open(&both(3)).unwrap();
    for server in SERVERS {
        open(world, CLIENT, server, PORT);
    }
    ends(world, CLIENT, SERVERS, PORT);
    let why = wall.backend.can_bar().unwrap_err().to_string();
    assert!(why.contains("pinhole"), "{why}");
}

fn is_up(wall: &mut Wall<'_>) -> bool {
    wall.with(|b, _| b.is_up()).unwrap()
}

/// By a chain of theirs, which is another one after a change of the configuration.
pub(crate) fn chain(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    walled(&world, kind, "");
    let _up = [PORT, 7001].map(|port| world.listen(port));
    let before = (saved(&world, kind), sets(&world));
    let through = |chain: &str| Shield {
        form: Form::Chain { table: "filter".into(), chain: chain.into() },
        ..shield()
    };
    let mut wall = Wall::of(&world, &through("INPUT"), kind.options());
    Wall::new(&world, kind.options()).sync(&[]).unwrap();
    assert!(!is_up(&mut wall), "a shield is no pinhole");
    wall.sync(&[]).unwrap();
    assert!(is_up(&mut wall));
    assert!(!is_up(&mut Wall::new(&world, kind.options())), "a pinhole is no shield");
    let text = saved(&world, kind);
    assert_eq!(count(&text, "-A PREROUTING -j OPENSESAME"), 0, "the shield is left: {text}");
    admits(&world, &mut wall);

    let tool = |v6, rest: &[&str]| {
        world.run(SERVER, &[&[&kind.tool(v6, ""), "-w", "20"], rest].concat());
    };
    tool(true, &["-D", "INPUT", "-j", "OPENSESAME"]);
    assert!(!is_up(&mut wall));
    wall.sync(&both(60)).unwrap();
    assert!(is_up(&mut wall));

    let mut wall = Wall::of(&world, &through("user"), kind.options());
    wall.sync(&both(60)).unwrap();
    let text = saved(&world, kind);
    assert_eq!(count(&text, "-A INPUT -j OPENSESAME"), 0, "{text}");
    assert_eq!(count(&text, "-A user -j OPENSESAME"), 2, "{text}");
    open(&world, CLIENT, SERVER_V4, PORT);
    open(&world, CLIENT, SERVER_V6, PORT);
    shut(&world, STRANGER, SERVER_V4, PORT);
    wall.with(|b, _| b.uninstall()).unwrap();
    assert_eq!((saved(&world, kind), sets(&world)), before);

    let mut wall = Wall::of(&world, &through("nowhere"), kind.options());
    assert!(wall.sync(&[]).is_err());
    let elsewhere = Form::Chain { table: "nat".to_string(), chain: "PREROUTING".to_string() };
    let why = Iptables::with(&Shield { form: elsewhere, ..shield() }, kind.options()).unwrap_err();
    assert!(why.to_string().contains("filter"), "{why}");
}

/// By a mark that a rule of theirs asks for, and that nobody else can bring along.
pub(crate) fn mark(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let bits = "0x40000000/0x40000000";
    let rules = format!(
        "-A user -m mark --mark {bits} -j ACCEPT\nCOMMIT\n\
         *raw\n-A PREROUTING -s STRANGER -j MARK --set-xmark {bits}\n"
    );
    walled(&world, kind, "");
    for (v6, (_, _, stranger)) in [false, true].into_iter().zip(BOTH) {
        let rules = format!("*filter\n{}COMMIT\n", rules.replace("STRANGER", stranger));
        feed(&world, &[&kind.tool(v6, "-restore"), "-w", "20", "--noflush"], &rules);
    }
    let _up = [PORT, 7001].map(|port| world.listen(port));
    let before = (saved(&world, kind), sets(&world));
    // The mark is enough, where it is left as it is.
    for server in SERVERS {
        open(&world, STRANGER, server, PORT);
    }
    all_shut(&world, &[CLIENT], SERVERS, PORT);
    let shield = Shield { form: Form::Mark(0x4000_0000), ..shield() };
    let mut wall = Wall::of(&world, &shield, kind.options());
    wall.sync(&[]).unwrap();
    assert!(is_up(&mut wall));
    assert!(!is_up(&mut Wall::new(&world, kind.options())), "a pinhole is no shield");
    // The bits are ours alone: whoever else sets them admits nobody, to no port.
    all_shut(&world, &[STRANGER], SERVERS, 7001);
    admits(&world, &mut wall);
    wall.with(|b, _| b.uninstall()).unwrap();
    assert_eq!((saved(&world, kind), sets(&world)), before);
}
