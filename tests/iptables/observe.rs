//! Nothing is dropped, and who would have been is known.

use super::*;

/// Only who has no lease is seen, each address and port once.
pub(crate) fn observed(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let watching = Shield { observe: true, ..shield() };
    if !kind.ipset {
        let why = world.enter(SERVER, || Iptables::with(&watching, kind.options())).unwrap_err();
        assert!(matches!(&why, Error::Missing(t) if t.contains("--observe")), "{why}");
        return;
    }
    foreign(&world, kind);
    let before = (saved(&world, kind), sets(&world));
    let _up = [PORT, 7001].map(|port| world.listen(port));
    let mut strict = Wall::new(&world, kind.options());
    strict.sync(&[]).unwrap();
    all_shut(&world, &[STRANGER], SERVERS, PORT);
    assert_eq!(strict.with(|b, _| b.observed()), Ok(Vec::new()));

    let mut wall = Wall::of(&world, &watching, kind.options());
    let is_up = |wall: &mut Wall<'_>| wall.with(|b, _| b.is_up()).unwrap();
    assert!(is_up(&mut strict) && !is_up(&mut wall), "a shield does more than look");
    wall.sync(&both(60)).unwrap();
    assert!(is_up(&mut wall));
    assert!(!is_up(&mut strict), "who looks on is no shield");
    assert_eq!(wall.with(|b, _| b.observed()), Ok(Vec::new()));
    for server in SERVERS {
        open(&world, STRANGER, server, PORT);
        open(&world, STRANGER, server, PORT);
        open(&world, STRANGER, server, 7001);
        open(&world, CLIENT, server, PORT);
    }
    let mut wanted = vec![element(STRANGER_V4, "tcp/7000"), element(STRANGER_V6, "tcp/7000")];
    let seen = |wall: &mut Wall<'_>| {
        let mut seen = wall.with(|b, _| b.observed()).unwrap();
        seen.sort();
        seen
    };
    assert_eq!(seen(&mut wall), wanted);

    // A segment of no session is seen too, and passes; what was seen is not forgotten.
    wall.sync(&both(60)).unwrap();
    let scan = ["nmap", "-sA", "-Pn", "-n", "--max-retries", "2", "-p", "7105", SERVER_V4];
    let text = world.run(STRANGER, &scan);
    assert!(text.contains("7105/tcp unfiltered"), "{text}");
    wanted.insert(1, element(STRANGER_V4, "tcp/7105"));
    assert_eq!(seen(&mut wall), wanted);

    strict.sync(&[]).unwrap();
    assert!(is_up(&mut strict));
    shut(&world, STRANGER, SERVER_V4, PORT);
    strict.with(|b, _| b.uninstall()).unwrap();
    assert_eq!((saved(&world, kind), sets(&world)), before);
}
