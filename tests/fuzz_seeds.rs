//! The bodies of the fuzz targets over their seeds, as ordinary tests.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

#[test]
fn every_seed_passes_its_body() {
    let mut failed = Vec::new();
    for (target, body) in bodies::TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 5, "{target} has {} seeds", seeds.len());
        for (path, bytes) in seeds {
            if catch_unwind(|| body(&bytes)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A body that leaned on the length or the start of its input would not survive this.
#[test]
fn no_cut_or_bent_seed_panics() {
    for (target, body) in bodies::TARGETS {
        for (path, bytes) in seeds(target) {
            for step in 1..16 {
                let at = bytes.len() * step / 16;
                let mut bent = bytes.clone();
                bent.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (step % 8));
                for input in [&bytes[..at], &bent] {
                    let done = catch_unwind(|| body(input));
                    assert!(done.is_ok(), "{} at {at}: {input:?}", path.display());
                }
            }
        }
    }
}

#[test]
fn the_seeds_are_those_that_the_generator_makes() {
    for (target, name, bytes) in bodies::seeds::all() {
        let found = seeds(target).into_iter().find(|(p, _)| p.ends_with(&name));
        let same = found.is_some_and(|(_, b)| b == bytes);
        assert!(same, "{target}/{name}: run `cargo run --example seeds` in fuzz/");
    }
}

/// Every target of cargo-fuzz is one of the bodies, and the other way round.
#[test]
fn every_body_is_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut targets: Vec<String> = bodies::TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    targets.sort();
    assert_eq!(files, targets);
}

/// The engine's game is lost by whoever plays it with other rules.
#[test]
fn a_wrong_model_is_noticed() {
    let lost = |change: fn(&mut [bodies::Rules; 3]), seed: &str| {
        let mut rules = bodies::RULES;
        change(&mut rules);
        let games = seeds("engine");
        let (_, game) = games.iter().find(|(path, _)| path.ends_with(seed)).unwrap();
        assert!(catch_unwind(|| bodies::engine_by(&bodies::RULES, game)).is_ok(), "{seed}");
        catch_unwind(|| bodies::engine_by(&rules, game)).is_err()
    };
    assert!(lost(|rules| rules[1].uses = Some(1), "guest"), "one use less");
    assert!(lost(|rules| rules[1].uses = Some(3), "guest"), "one use more");
    assert!(lost(|rules| rules[1].uses = None, "guest"), "uses that are not counted");
    assert!(lost(|rules| rules[0].max_ttl = 29, "open-close"), "a shorter lease");
    assert!(lost(|rules| rules[2].ends = Some(0), "credential-ends"), "an earlier end");
}

#[test]
fn an_error_that_shows_a_key_is_noticed() {
    let text = "id = \"1\"\nkey = \"QEFCQ0RFRkdISUpL\"\n";
    let says = |error: &'static str| {
        catch_unwind(|| bodies::keeps_silent(text, error, |_| Some("line 2: no key".into())))
    };
    assert!(says("line 2: no key").is_ok());
    assert!(says("line 2: `QEFCQ0RF...` is no key").is_err());
}
