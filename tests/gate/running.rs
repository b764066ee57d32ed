//! A gate that runs, with a judge of the test's own, and its guests.
#![allow(unreachable_pub)]

use opensesame_spa::access::Prefix;
use opensesame_spa::gate::{Answer, Asked, Gate, Limits, QUESTIONS, Question, Site, serve};
use opensesame_spa::time::Unix;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Whose network is spared, so that he is banned alone.
pub const ALONE: &str = "2001:db8:0:5:";
/// Who holds a lease.
pub const HOLDER: &str = "203.0.113.77";
pub const PIN: &[u8] = b"123456789012";

/// A gate in a thread of its own, with a judge who counts: three pass, the fourth is blocked.
pub struct Running {
    pub at: SocketAddr,
    pub strikes: Arc<AtomicUsize>,
    pub from: Arc<Mutex<Vec<IpAddr>>>,
    pub dir: tempfile::TempDir,
}

pub fn limits() -> Limits {
    Limits { verdict: Duration::from_millis(300), ..Limits::default() }
}

pub fn start(limits: Limits, proxies: &[&str], answers: bool) -> Running {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "<h1>first</h1>").unwrap();
    std::fs::write(dir.path().join("a.txt"), "0123456789").unwrap();
    std::fs::write(dir.path().join("secret.txt"), "SECRET").unwrap();
    std::fs::write(dir.path().join("big.bin"), vec![7u8; 20_000_000]).unwrap();
    let files = [
        ("*", "index.html"),
        ("index.html", "index.html"),
        ("d/a b.txt", "a.txt"),
        ("a.txt", "a.txt"),
        ("big.bin", "big.bin"),
        ("gone.txt", "gone.txt"),
    ];
    let site = Site {
        root: std::fs::File::open(dir.path()).unwrap().into(),
        files: files.map(|(k, v)| (k.to_string(), v.into())).into_iter().collect(),
        ignore: ["favicon.ico".to_string()].into(),
        proxies: proxies.iter().map(|p| p.parse().unwrap()).collect(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (strikes, from) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, who) = (Arc::clone(&strikes), Arc::clone(&from));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let (judge, questions) = mpsc::channel(QUESTIONS);
        let gate = Rc::new(Gate::new(site, limits, judge, || Unix(1_000)));
        let judged = Rc::clone(&gate);
        local.spawn_local(async move {
            if answers {
                decide(questions, judged, count, who).await;
            } else {
                // A judge who is away: questions are taken and dropped.
                std::future::pending::<()>().await;
                drop(questions);
            }
        });
        let _ = local.block_on(&runtime, serve(vec![listener], gate));
    });
    Running { at, strikes, from, dir }
}

async fn decide(
    mut questions: mpsc::Receiver<Asked>,
    gate: Rc<Gate>,
    count: Arc<AtomicUsize>,
    who: Arc<Mutex<Vec<IpAddr>>>,
) {
    let mut of: BTreeMap<IpAddr, (u8, u8)> = BTreeMap::new();
    while let Some((question, answer)) = questions.recv().await {
        let said = match question {
            Question::Strike { from } => {
                let entry = of.entry(from).or_default();
                entry.0 += 1;
                if entry.0 <= 4 {
                    count.fetch_add(1, SeqCst);
                    who.lock().unwrap().push(from);
                }
                match entry.0 {
                    0..=3 => Answer::Pass,
                    4.. => {
                        let alone = from.to_string().starts_with(ALONE);
                        let unit = if alone { Prefix::host(from) } else { Prefix::unit(from) };
                        gate.ban(unit, Unix(2_000));
                        if from.to_string() == HOLDER { Answer::Pass } else { Answer::Blocked }
                    }
                }
            }
            Question::Guess { from, pin } if pin.as_slice() == PIN => {
                of.remove(&from);
                Answer::Pardoned
            }
            Question::Guess { from, .. } => {
                let entry = of.entry(from).or_default();
                entry.1 += 1;
                match 4u8.checked_sub(entry.1) {
                    Some(left) => Answer::Wrong { left, delay: Duration::from_millis(1) },
                    None => Answer::Blocked,
                }
            }
        };
        let _ = answer.send(said);
    }
}

impl Running {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends these bytes, and all that comes until the connection ends.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }

    pub fn ask(&self, method: &str, target: &str, lines: &str) -> String {
        self.raw(
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n")
                .as_bytes(),
        )
    }

    pub fn get(&self, target: &str) -> String {
        self.ask("GET", target, "")
    }

    pub fn post(&self, body: &str) -> String {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let length = body.len();
        self.raw(format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    pub fn strikes(&self) -> usize {
        self.strikes.load(SeqCst)
    }
}

pub fn status(text: &str) -> u16 {
    text.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0)
}

pub fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let head = text.split("\r\n\r\n").next()?;
    head.lines().find_map(|l| {
        let (n, v) = l.split_once(": ")?;
        n.eq_ignore_ascii_case(name).then_some(v)
    })
}
