//! Who is banned, in ipset's sets; that a lease wins; and what is said where there are no sets.

use super::*;
use opensesame_spa::firewall::Bar;

fn bar(from: &str, seconds: u64) -> Bar {
    Bar { from: from.parse().unwrap(), until: now().mono.plus(seconds * 1_000) }
}

fn banned(world: &World, set: &str) -> String {
    let text = world.run(SERVER, &["ipset", "list", set]);
    text.split("Members:\n").nth(1).unwrap_or_default().to_string()
}

/// Dropped packets by the rule that asks that set.
fn drops(world: &World, kind: Kind, v6: bool, set: &str) -> u64 {
    let tool = kind.tool(v6, "");
    let text = world.run(SERVER, &[&tool, "-t", "mangle", "-nvxL", "OPENSESAME-LEASE"]);
    let rule = text.lines().find(|l| l.contains("DROP") && l.contains(set)).expect("a rule");
    rule.split_whitespace().next().unwrap().parse().unwrap()
}

/// Banned, over a lease, ended, and told anew after somebody else's hand.
pub(crate) fn bans(kind: Kind) {
    let Some(world) = World::new(&TOOLS) else { return };
    let _up = world.listen(PORT);
    let mut wall = Wall::new(&world, kind.options());
    if !kind.ipset {
        let why = wall.backend.can_bar().unwrap_err().to_string();
        assert!(why.contains("ipset"), "{why}");
        return;
    }
    wall.backend.can_bar().unwrap();
    assert!(wall.with(|b, now| b.bar(&[bar(CLIENT_V4, 60)], now)).is_err(), "not before a sync");
    wall.sync(&[]).unwrap();
    let bars = [bar(CLIENT_V4, 600), bar("fd77:1::/64", 600)];
    wall.with(|b, now| b.bar(&bars, now)).unwrap();
    shut(&world, CLIENT, SERVER_V4, PORT);
    shut(&world, CLIENT, SERVER_V6, PORT);
    shut(&world, STRANGER, SERVER_V4, PORT);
    assert!(drops(&world, kind, false, "opensesame4-ban") > 0);
    assert!(drops(&world, kind, true, "opensesame6-ban") > 0);
    assert!(banned(&world, "opensesame4-ban").contains(&format!("{CLIENT_V4} timeout 5")));
    // A lease wins, and the ban is still there behind it.
    wall.open(&both(60)).unwrap();
    open(&world, CLIENT, SERVER_V4, PORT);
    open(&world, CLIENT, SERVER_V6, PORT);
    wall.with(|b, now| b.unbar(&[bars[0].from], now)).unwrap();
    wall.with(|b, now| b.unbar(&[bars[0].from], now)).unwrap();
    assert_eq!(banned(&world, "opensesame4-ban"), "");
    assert!(banned(&world, "opensesame6-ban").contains("fd77:1::/64 timeout 5"));
    // A sync makes it exact.
    feed(
        &world,
        &["ipset", "restore"],
        "add opensesame4-ban 192.0.2.66 timeout 60\nflush opensesame6-ban\n",
    );
    wall.sync(&both(60)).unwrap();
    assert_eq!(banned(&world, "opensesame4-ban"), "");
    assert!(banned(&world, "opensesame6-ban").contains("fd77:1::/64 timeout 5"));
    open(&world, CLIENT, SERVER_V4, PORT);
    wall.backend.set_bars(&[]);
    wall.sync(&[]).unwrap();
    assert_eq!(banned(&world, "opensesame6-ban"), "");
    wall.with(|b, _| b.uninstall()).unwrap();
    assert_eq!(sets(&world).len(), 0);
}
