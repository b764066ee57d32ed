use super::*;
use std::os::unix::fs::OpenOptionsExt;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn file(text: &str) -> (tempfile::TempDir, Result<ClientText, ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("staff.toml");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    (dir, ClientText::read(&path))
}

fn entry(name: &str, more: &str) -> String {
    format!("[[client]]\nname = \"{name}\"\nid = \"3031323334353637\"\nkey = \"{KEY}\"\n{more}")
}

fn named(text: &str) -> Vec<(Option<String>, usize, Result<Overrides, String>)> {
    let (_dir, file) = file(text);
    let file = file.unwrap();
    let of = |f: Found| {
        let client = f.client.map(|c| c.overrides);
        (f.name, f.line, client.map_err(|e| format!("{:?} {}", e.at, e.what)))
    };
    file.clients().unwrap().map(of).collect()
}

#[test]
fn each_entry_is_read_for_itself_and_the_head_counts_for_all() {
    let text = format!(
        "# staff\nservices = [\"ssh\"]\nttl = \"1m\"\n\n{}\n{}  [[ client ]] # the next one\nname = 'c'\nid = 5\n[[client]]\n",
        entry("a", ""),
        entry("b", "ttl = \"2m\"\n")
    );
    let found = named(&text);
    let ok = |ttl| {
        Ok(Overrides { services: Some(vec!["ssh".into()]), ttl: Some(ttl), ..Overrides::default() })
    };
    assert_eq!(found[0], (Some("a".into()), 5, ok(60)));
    assert_eq!(found[1], (Some("b".into()), 10, ok(120)));
    let (name, line, why) = &found[2];
    assert_eq!((name.as_deref(), *line), (Some("c"), 15));
    assert!(why.as_ref().unwrap_err().starts_with("Some((17, 6)) "), "{why:?}");
    let (name, line, why) = &found[3];
    assert_eq!((name.as_deref(), *line), (None, 18));
    assert!(why.as_ref().unwrap_err().contains("name"), "{why:?}");
}

#[test]
fn what_toml_would_read_otherwise_is_no_file_of_many() {
    let hidden = entry("a", "note = \"\"\"\n") + &entry("b", "") + "\"\"\"\n";
    let why = file(&hidden).1.err().unwrap();
    assert_eq!(why.at, Some((5, 8)), "{why}");
    for head in ["key = 5\n", "id = \"3031323334353637\"\n", "name = \"x\"\n", "[x]\n", "?\n"] {
        let (_dir, file) = file(&format!("{head}{}", entry("a", "")));
        let why = file.unwrap().clients().err().unwrap();
        assert_eq!(why.at.unwrap().0, 1, "{head}: {why}");
    }
    // A table is a mistake in the entry before it, and what it says is not lost on that one.
    for table in ["[x]", "[limits]\nhours = [\"00:00-01:00\"]", "[[client.x]]\nttl = \"1s\""] {
        let found = named(&(entry("a", "") + table + "\n" + &entry("b", "")));
        assert!(found[0].2.is_err() && found[1].2.is_ok(), "{table}: {found:?}");
        assert_eq!(found[0].0.as_deref(), Some("a"));
    }
}

fn who(text: &str) -> Option<Vec<(String, Option<ClientId>)>> {
    file(text).1.unwrap().names()
}

#[test]
fn a_mistake_in_a_header_costs_its_own_client_alone() {
    let (a, c) = (entry("a", ""), entry("c", ""));
    let id = Some(ClientId(*b"01234567"));
    let names = |found: &[(Option<String>, usize, Result<Overrides, String>)]| {
        found.iter().map(|(n, _, r)| (n.clone().unwrap(), r.is_ok())).collect::<Vec<_>>()
    };
    let alone = |b: &str| {
        let text = format!("{a}{b}{c}");
        let found = named(&text);
        assert_eq!(
            names(&found),
            [("a".into(), true), ("b".into(), false), ("c".into(), true)],
            "{b}: {found:?}"
        );
        let why = found[1].2.as_ref().unwrap_err();
        assert!(why.starts_with("Some((5, "), "{b}: {why}");
        let (_dir, file) = file(&text);
        let rest = file.unwrap().without("b").unwrap();
        assert!(matches!(rest, Some(Rest::Text(text)) if *text == format!("{a}{c}")), "{b}");
        assert_eq!(who(&text).unwrap()[1], ("b".into(), id));
    };
    let b = entry("b", "");
    let wrong = ["[client]", "[[clinet]]", "[[client]", "[[\"client\"]]", "[clients]", "[[]]", "["];
    wrong.iter().for_each(|header| alone(&b.replace("[[client]]", header)));
    alone(&b.replace("[[client]]\n", "[[client]] "));
    alone(&b.replace("[[client]]\n", "[client] "));
    // A value of more lines is none.
    let lines = entry("a", "sources = [ # [\n  \"10.0.0.0/8\",\n]\nservices = [\n\"a\"]\n");
    assert_eq!(names(&named(&lines)), [("a".into(), true)]);
    // Two in one: it is a mistake of both, and neither is taken out with the other.
    for two in [
        format!("{}[[client]]\nname = \"b\"\nid = \n{c}", a.trim_end()),
        format!("{a}name = \"b\"\n{c}"),
        format!("{a}services = [\n[client]\nname = \"b\"\n{c}"),
    ] {
        let found = named(&two);
        assert_eq!(
            names(&found),
            [("a".into(), false), ("b".into(), false), ("c".into(), true)],
            "{two}"
        );
        let (_dir, file) = file(&two);
        let file = file.unwrap();
        assert!(file.without("a").is_err() && file.without("b").is_err(), "{two}");
        assert!(matches!(file.without("c"), Ok(Some(Rest::Text(_)))));
    }
    let unread = format!("{a}name = b\n{c}");
    assert!(file(&unread).1.unwrap().without("a").is_err());
    // The same in the first entry; and a client's own file stays one.
    assert_eq!(
        names(&named(&(b.replace("[[", "[") + &c))),
        [("b".into(), false), ("c".into(), true)]
    );
    let own = format!("[client]\nid = \"3031323334353637\"\nkey = \"{KEY}\"\n");
    assert!(file(&own).1.unwrap().clients().is_err() && who(&own).is_none());
    // What counts for all of the file is not lost under another header.
    let (_dir, head) = file(&format!("[all]\nhours = [\"00:00-01:00\"]\n{a}{c}"));
    let head = head.unwrap();
    assert!(head.clients().is_err());
    assert_eq!(head.names(), Some(vec![("a".into(), id), ("c".into(), id)]));
}

#[test]
fn no_error_shows_a_key() {
    for more in ["key2 = \"SECRETSECRET\"\n", "SECRETSECRET\n", "ttl = \"SECRETSECRET\"\n"] {
        for (_, _, why) in named(&(entry("a", more) + &entry("b", ""))) {
            let why = why.err().unwrap_or_default();
            assert!(!why.contains("SECRET") && !why.contains(&KEY[..8]), "{why}");
        }
    }
}

#[test]
fn one_that_is_taken_out_leaves_every_other_byte() {
    let rest = |text: &str, name: &str| match file(text).1.unwrap().without(name) {
        Ok(Some(Rest::Text(text))) => Some(text.to_string()),
        Ok(Some(Rest::Nothing)) => Some("nothing".into()),
        Ok(None) => None,
        Err(why) => Some(format!("{:?}", why.at)),
    };
    let (a, b, c) = (entry("a", "\n"), entry("b", "# his own\nttl = \"1m\"\n\n"), entry("c", ""));
    let head = "ttl = \"1m\" # all\r\n\n# a\n";
    let text = format!("{head}{a}# b\n{b}\n# c\n{c}# end");
    assert_eq!(rest(&text, "a"), Some(format!("{head}# b\n{b}\n# c\n{c}# end")));
    assert_eq!(rest(&text, "b"), Some(format!("{head}{a}# b\n\n# c\n{c}# end")));
    assert_eq!(rest(&text, "c"), Some(format!("{head}{a}# b\n{b}\n# c\n# end")));
    assert_eq!(rest(&text, "d"), None);
    assert_eq!(rest(&text, "staff"), None, "its name is nobody's");
    // One that TOML does not take, and one that stands there twice.
    let broken = format!("[[client]]\nname = \"x\" # him\nid = \n{c}{a}{c}");
    assert_eq!(rest(&broken, "x"), Some(format!("{c}{a}{c}")));
    assert_eq!(rest(&broken, "c"), Some(format!("[[client]]\nname = \"x\" # him\nid = \n{a}")));
    // The last one: what counted for all stays, and is no client.
    let last = format!("{head}{c}");
    let left = rest(&last, "c").unwrap();
    assert_eq!(left, format!("{head}{EMPTY}\n"));
    assert_eq!(named(&left), []);
    assert_eq!(who(&left), Some(vec![]));
    assert_eq!(rest(&left, "staff"), None);
    assert_eq!(rest(&format!("{left}{c}"), "c"), Some(format!("{left}{EMPTY}\n")));
    // Without that line it is the text of one client who has lost his lines.
    assert!(file(head).1.unwrap().clients().is_err());
    assert_eq!(who(head), Some(vec![("staff".into(), None)]));
    assert_eq!(who("# only\n"), None);
    assert_eq!(who("id = \n"), None);
    assert_eq!(rest(&format!("# only\n{c}"), "c"), Some("nothing".into()));
    assert!(file("# only\n").1.unwrap().clients().is_err());
    let own = format!("id = \"3031323334353637\"\nkey = \"{KEY}\"\n");
    assert_eq!(rest(&own, "staff"), Some("nothing".into()));
    assert_eq!(rest(&own, "other"), None);
}
