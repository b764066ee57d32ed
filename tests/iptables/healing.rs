//! What goes wrong, and what `sync` makes of it.

use super::*;

/// Tools that fail from the n-th call on: an error that says so, nobody let in and nobody
/// cut off, and the next `sync` heals.
pub(crate) fn failure(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _up = world.listen(PORT);
    let dir = disguised(
        "n=$(($(cat $d/calls) + 1)); echo $n > $d/calls\n\
         [ $n -lt $(cat $d/from) ] || case \" $(cat $d/which) \" in\n\
         *\" $me \"*) echo it is broken >&2; exit 1;; esac",
    );
    let set = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let fail = |from: u32, which: &str| {
        set("calls", "0");
        set("from", &from.to_string());
        set("which", which);
    };
    let all = [false, true].map(|v6| format!("{0} {0}-restore", kind.tool(v6, "")));
    let all = format!("{} {} ipset", all[0], all[1]);
    let check = || {
        open(&world, CLIENT, SERVER_V4, PORT);
        open(&world, CLIENT, SERVER_V6, PORT);
        shut(&world, STRANGER, SERVER_V4, PORT);
    };
    fail(0, "nothing");
    let mut wall = Wall::new(&world, masked(kind, dir.path()));
    if kind.ipset {
        // The shield does without sets what it must do.
        fail(0, "ipset");
        let said = wall.sync(&both(300)).unwrap_err().to_string();
        assert!(said.contains("ipset ended with 1: it is broken"), "{said}");
        check();
    }
    // Half a shield is better than none.
    fail(0, &kind.tool(true, "-restore"));
    let said = wall.sync(&[]).unwrap_err().to_string();
    assert!(said.contains("ip6tables") && said.contains("it is broken"), "{said}");
    shut(&world, STRANGER, SERVER_V4, PORT);

    fail(0, "nothing");
    wall.sync(&both(300)).unwrap();
    let good = (saved(&world, kind), sets(&world));
    check();
    let mut from = 1;
    loop {
        fail(from, &all);
        match wall.sync(&both(300)) {
            Ok(()) => break,
            Err(e) => assert!(e.to_string().contains("it is broken"), "{e}"),
        }
        if from % 4 == 1 {
            check();
        }
        assert!(wall.open(&both(300)).is_err());
        fail(0, "nothing");
        wall.sync(&both(300)).unwrap();
        assert_eq!((saved(&world, kind), sets(&world)), good, "{from}");
        from += 1;
    }
    // One of ipset, then three for each family's shield. What follows keeps ports out of
    // connection tracking, and that is done without if it cannot be done.
    assert_eq!(from, if kind.ipset { 8 } else { 7 });
    fail(0, &all);
    assert!(wall.open(&both(400)).is_err());
    assert!(wall.with(|b, _| b.uninstall()).is_err());
    check();
}
