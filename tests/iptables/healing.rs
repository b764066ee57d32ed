//! What goes wrong, and what `sync` makes of it.

use super::*;

/// Whatever has become of our rules and sets, `sync` makes them right again.
pub(crate) fn drift(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    foreign(&world, kind);
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, kind.options());
    wall.sync(&both(300)).unwrap();
    let good = (saved(&world, kind), sets(&world));
    let mangle = "TOOL -w 20 -t mangle";
    let mut damages = vec![
        format!("{mangle} -D OPENSESAME 1"),
        format!("{mangle} -D OPENSESAME-LEASE 1"),
        format!("{mangle} -F OPENSESAME"),
        format!("{mangle} -F OPENSESAME-JUDGE"),
        format!("{mangle} -D PREROUTING -j OPENSESAME"),
        format!("{mangle} -A PREROUTING -j OPENSESAME"),
        format!("{mangle} -I PREROUTING 1 -p tcp -j ACCEPT; DROPIT"),
        format!("{mangle} -I OPENSESAME 1 -j RETURN"),
        format!("{mangle} -I OPENSESAME-JUDGE 1 -p tcp -j RETURN"),
        format!("{mangle} -F PREROUTING; {mangle} -A PREROUTING -j MINE"),
        "TOOL -w 20 -t raw -D PREROUTING -j OPENSESAME; TOOL -w 20 -t raw -F OPENSESAME-OUT"
            .to_string(),
        format!(
            "{mangle} -D PREROUTING -j OPENSESAME; {mangle} -F OPENSESAME; \
             {mangle} -F OPENSESAME-JUDGE; {mangle} -F OPENSESAME-OLDER; \
             {mangle} -F OPENSESAME-LEASE; {mangle} -X OPENSESAME; \
             {mangle} -X OPENSESAME-JUDGE; {mangle} -X OPENSESAME-OLDER; \
             {mangle} -X OPENSESAME-LEASE"
        ),
    ];
    if kind.ipset {
        let gone = "TOOL -w 20 -t mangle -F OPENSESAME-LEASE; sleep 0.3; \
                    ipset destroy opensesame4; ipset destroy opensesame6";
        damages.push("ipset flush opensesame4; ipset flush opensesame6".into());
        damages.push("ipset add opensesame4 STRANGER,tcp:7000".into());
        damages.push("ipset create opensesame4-new hash:ip,port".into());
        damages.push(gone.to_string());
        damages.push(format!("{gone}; ipset create opensesame4 hash:ip"));
    }
    for damage in damages {
        for v6 in [false, true] {
            let text = damage
                .replace("TOOL", &kind.tool(v6, ""))
                .replace("STRANGER", STRANGER_V4)
                .replace("; DROPIT", "");
            let out = world.try_run(SERVER, &["sh", "-c", &text]);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            // The second round finds no sets left.
            assert!(out.status.success() || damage.contains("ipset"), "{text}: {said}");
        }
        assert!((saved(&world, kind), sets(&world)) != good, "no damage: {damage}");
        wall.sync(&both(300)).unwrap_or_else(|e| panic!("{damage}: {e}"));
        if damage.ends_with("DROPIT") {
            // Foreign rules stay, behind ours.
            for v6 in [false, true] {
                let undo = [&kind.tool(v6, ""), "-w", "20", "-t", "mangle"];
                let rule = ["-D", "PREROUTING", "-p", "tcp", "-j", "ACCEPT"];
                world.run(SERVER, &[&undo[..], &rule].concat());
            }
        }
        assert_eq!((saved(&world, kind), sets(&world)), good, "{damage}");
    }
    for (server, _, _) in BOTH {
        open(&world, CLIENT, server, PORT);
        shut(&world, STRANGER, server, PORT);
    }
}

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
