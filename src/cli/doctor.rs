//! `doctor`: what is wrong with this machine's set-up, and the mend.

use super::print;
use crate::daemon::doctor::{Health, examine};
use serde_json::json;
use std::path::Path;

pub(super) fn run(config: &Path, as_json: bool) -> Result<(), String> {
    let all = examine(config);
    let name = |health| match health {
        Health::Well => "ok",
        Health::Look => "look",
        Health::Wrong => "WRONG",
    };
    if as_json {
        let row = |f: &crate::daemon::doctor::Finding| json!({ "what": f.what, "health": name(f.health).to_lowercase(), "seen": f.seen, "mend": f.mend });
        print(&format!("{}\n", serde_json::Value::Array(all.iter().map(row).collect())))?;
    } else {
        let mut out = String::new();
        for finding in &all {
            let (health, seen) = (name(finding.health), finding.seen.replace('\n', " "));
            out.push_str(&format!("{health:<6} {:<12} {seen}\n", finding.what));
            if let Some(mend) = &finding.mend {
                out.push_str(&format!("{:<6} {:<12} mend: {mend}\n", "", ""));
            }
        }
        print(&out)?;
    }
    match all.iter().filter(|f| f.health == Health::Wrong).count() {
        0 => Ok(()),
        1 => Err("one thing is wrong: see its mend above".into()),
        n => Err(format!("{n} things are wrong: see their mends above")),
    }
}
