//! The summary: one row for each target, in Markdown.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    pub target: String,
    pub seen: String,
    /// To the peer, where there is one.
    pub ratio: String,
    pub met: Option<bool>,
}

impl Row {
    pub fn new(what: &str, target: &str, seen: String, ratio: String, met: bool) -> Row {
        Row { what: what.into(), target: target.into(), seen, ratio, met: Some(met) }
    }

    /// What no target is set for.
    pub fn figure(what: &str, seen: String) -> Row {
        let (target, ratio) = (String::new(), String::new());
        Row { what: what.into(), target, seen, ratio, met: None }
    }

    /// A measurement that broke off; why stands above the table.
    pub fn failed(name: &str) -> Row {
        Row::new(name, "", "FAILED: see above".into(), String::new(), false)
    }

    fn line(&self) -> String {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let Row { what, target, seen, ratio, .. } = self;
        format!("| {what} | {target} | {seen} | {ratio} | {met} |")
    }
}

pub fn print(rows: &[Row]) {
    println!("\n| what | target | seen | peer | met |\n|---|---|---|---|---|");
    for row in rows {
        println!("{}", row.line());
    }
    let met = rows.iter().filter(|r| r.met == Some(true)).count();
    let all = rows.iter().filter(|r| r.met.is_some()).count();
    println!("\n{met} of {all} targets met");
}

pub fn median(all: &[Duration]) -> Duration {
    let mut all = all.to_vec();
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// The duration that so many of a hundred stay below.
pub fn percentile(all: &[Duration], percent: usize) -> Duration {
    let mut all = all.to_vec();
    all.sort();
    all.get((all.len() * percent / 100).min(all.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// How many times the first goes into the second.
pub fn times(ours: Duration, theirs: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64().max(1e-9)
}

/// 1234567 as 1,234,567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
