//! How often the tools are called, and what it means when they fail.

use super::*;
use opensesame_spa::firewall::Forward;

/// Every call is written down: the program and its first word.
const NOTES: &str = "echo $me $1 >> $d/notes";

/// The openings of one turn are one call of ipset, or one of each family's restore.
pub(crate) fn turn(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let dir = disguised(NOTES);
    let mut wall = Wall::new(&world, masked(kind, dir.path()));
    wall.sync(&[]).unwrap();
    let notes = dir.path().join("notes");
    let calls = |work: &mut dyn FnMut()| {
        std::fs::write(&notes, "").unwrap();
        work();
        let text = std::fs::read_to_string(&notes).unwrap();
        text.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let want = match kind.ipset {
        true => vec!["ipset restore".to_string()],
        false => {
            [false, true].map(|v6| format!("{} --noflush", kind.tool(v6, "-restore"))).to_vec()
        }
    };
    let froms = ["192.0.2.", "2001:db8::"].map(|base| (1..=25).map(move |n| format!("{base}{n}")));
    let all: Vec<Opening> =
        froms.into_iter().flatten().map(|from| opening(&from, "tcp/7000", 600)).collect();
    assert_eq!(calls(&mut || wall.open(&all).unwrap()), want);
    let held = match kind.ipset {
        true => count(&world.run(SERVER, &["ipset", "list"]), "tcp:7000"),
        false => count(&saved(&world, kind), "-m time"),
    };
    assert_eq!(held, 50);
    let gone: Vec<Element> = all.iter().map(|o| o.element).collect();
    assert_eq!(calls(&mut || wall.with(|b, now| b.close(&gone, now)).unwrap()), want);
}

/// Each exit code and what is said with it become an error that says what to do; nobody comes in.
pub(crate) fn codes(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _up = world.listen(PORT);
    let restore = kind.tool(false, "-restore");
    let dir = disguised("[ $me != $(cat $d/who) ] || { cat $d/says >&2; exit $(cat $d/code); }");
    let set = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let fail = |who: &str, code: &str, says: &str| {
        set("code", code);
        set("says", says);
        set("who", who);
    };
    fail("nobody", "0", "");
    let mut wall = Wall::new(&world, masked(kind, dir.path()));
    wall.sync(&[]).unwrap();
    shut(&world, STRANGER, SERVER_V4, PORT);
    let module = "Couldn't load match `time':No such file or directory";
    let lock = "Another app is currently holding the xtables lock. Perhaps you want -w?";
    for (code, says, advice) in [
        ("1", "it is broken", "refused: "),
        ("1", "iptables-restore: line 3 failed", "ended with 1: iptables-restore: line 3 failed"),
        ("2", "unknown option \"--datestart\"", "it may be older than 1.6.2, which is needed"),
        ("2", module, "missing: "),
        ("3", "can't initialize iptables table", "install what fits this kernel"),
        ("3", "Permission denied (you must be root)", "run as root or with CAP_NET_ADMIN"),
        ("4", lock, "busy: "),
        ("4", "Resource temporarily unavailable.", "the next try waits again"),
        ("4", "RULE_APPEND failed (Cannot allocate memory)", "the kernel lacks memory or a module"),
        ("1", "table `mangle' is incompatible, use 'nft' tool.", "choose the nftables backend"),
    ] {
        fail(&restore, code, says);
        let said = wall.sync(&both(300)).unwrap_err().to_string();
        assert!(said.contains(advice), "{code} {says}: {said}");
        shut(&world, STRANGER, SERVER_V4, PORT);
    }
    fail("nobody", "0", "");
    wall.sync(&both(300)).unwrap();
    open(&world, CLIENT, SERVER_V4, PORT);
}

/// While ipset is held by somebody else, rules stand in for the sets, in every table.
pub(crate) fn busy_sets(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let dir = disguised(
        "[ $me != ipset ] || [ ! -e $d/busy ] || { echo Device or resource busy >&2; exit 1; }",
    );
    let forward = Forward {
        from: format!("tcp/{PORT}").parse().unwrap(),
        to: "10.77.3.2:22".parse().unwrap(),
    };
    let leading = Shield { forwards: vec![forward], ..shield() };
    let leads = || {
        let text = world.run(SERVER, &[&kind.tool(false, "-save"), "-t", "nat"]);
        (text.contains("OPENSESAME"), count(&text, "DNAT"))
    };
    let busy = |is: bool| match is {
        true => std::fs::write(dir.path().join("busy"), "").unwrap(),
        false => std::fs::remove_file(dir.path().join("busy")).unwrap(),
    };
    let held = |wall: &mut Wall<'_>| {
        let error = wall.sync(&both(300)).unwrap_err();
        assert!(matches!(error, Error::Busy(_)), "{error}");
        shut(&world, STRANGER, SERVER_V4, PORT);
    };
    // A holder of a lease is led on by a rule.
    let mut wall = Wall::of(&world, &leading, masked(kind, dir.path()));
    busy(true);
    held(&mut wall);
    assert_eq!(leads(), (true, 1));
    busy(false);
    wall.sync(&both(300)).unwrap();
    assert_eq!(leads(), (true, 2), "by the sets");
    // What a shield of another shape has left goes.
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, masked(kind, dir.path()));
    busy(true);
    held(&mut wall);
    assert_eq!(leads(), (false, 0));
    open(&world, CLIENT, SERVER_V4, PORT);
}
