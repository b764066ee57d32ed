//! Datagrams against the normative page: the library's side of the vectors, and the decoder in
//! `tests/interop` that was written without it.
#![allow(dead_code, unreachable_pub)]

use opensesame_spa::access::{Action, ClientId, Prefix, Request, Services, Wanted};
use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, DoorKey, ServerId, random};
use opensesame_spa::proto::{self, COVERED, DATAGRAM, Malformed, NONCE, Packet, Reply, Status};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// All keys between one client and its server.
pub struct Keys {
    pub server: ServerId,
    pub door_key: [u8; 32],
    pub door: Door,
    pub client: ClientId,
    pub client_key: [u8; 32],
    pub own: ClientKeys,
}

/// What a datagram says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Message {
    Request(Request),
    /// A reply, and the HMAC of the request that it answers.
    Reply(Reply, [u8; 32]),
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The bytes of a field in hex.
pub fn bytes<const N: usize>(item: &Value, name: &str) -> [u8; N] {
    let text = item[name].as_str().unwrap_or_else(|| panic!("no {name} in {item}"));
    unhex(text).try_into().unwrap_or_else(|_| panic!("{name} has not {N} bytes"))
}

impl Keys {
    pub fn new(
        server: [u8; 16],
        door_key: [u8; 32],
        client: [u8; 8],
        client_key: [u8; 32],
    ) -> Keys {
        let server = ServerId(server);
        Keys {
            server,
            door_key,
            door: Door::derive(server, &DoorKey::new(door_key)),
            client: ClientId(client),
            client_key,
            own: ClientKeys::derive(server, &ClientKey::new(client_key), client),
        }
    }

    /// The keys that a vector file or a line names.
    pub fn of(item: &Value) -> Keys {
        let (server, client) = (bytes(item, "server_id"), bytes(item, "client_id"));
        Keys::new(server, bytes(item, "door_key"), client, bytes(item, "client_key"))
    }

    pub fn random() -> Keys {
        Keys::new(random().unwrap(), random().unwrap(), random().unwrap(), random().unwrap())
    }

    /// A line for the other decoder: the keys, the kind and what a reply answers.
    pub fn line(&self, message: &Message) -> Value {
        let (kind, asked) = match message {
            Message::Request(_) => ("request", Value::Null),
            Message::Reply(_, asked) => ("reply", json!(hex(asked))),
        };
        json!({
            "server_id": hex(&self.server.0),
            "door_key": hex(&self.door_key),
            "client_id": hex(&self.client.0),
            "client_key": hex(&self.client_key),
            "kind": kind,
            "request_hmac": asked,
        })
    }

    pub fn seal(&self, message: &Message, nonce: &[u8; NONCE]) -> [u8; DATAGRAM] {
        match message {
            Message::Request(request) => {
                proto::seal(request, self.client, self.server, &self.door, &self.own, nonce)
            }
            Message::Reply(reply, asked) => {
                proto::seal_reply(reply, asked, self.server, &self.own, nonce)
            }
        }
    }

    /// The checks of a request in their order: what it says, or the name of the first that fails.
    pub fn request(&self, datagram: &[u8]) -> Result<Message, &'static str> {
        let packet = Packet::parse(datagram).map_err(defect)?;
        if !packet.is_admitted(&self.door) {
            return Err("admission");
        }
        if packet.client(&self.door) != self.client {
            return Err("client");
        }
        if !packet.is_proven(&self.own.mac) {
            return Err("hmac");
        }
        packet.open(&self.own.seal, self.server).map(Message::Request).map_err(defect)
    }

    /// The same for a reply.
    pub fn reply(&self, datagram: &[u8], asked: [u8; 32]) -> Result<Message, &'static str> {
        let read = proto::open_reply(datagram, &asked, self.server, &self.own);
        // The library gives one answer for a wrong HMAC and a wrong seal.
        let sized = <&[u8; DATAGRAM]>::try_from(datagram);
        let proven = sized.is_ok_and(|d| {
            let hmac = d[COVERED..].try_into().unwrap();
            self.own.reply_mac.verify(&[&asked, &d[..COVERED]], &hmac)
        });
        match read {
            Ok(reply) => Ok(Message::Reply(reply, asked)),
            Err(Malformed::Seal) if !proven => Err("hmac"),
            Err(other) => Err(defect(other)),
        }
    }
}

/// The name of a check in the vector files.
fn defect(why: Malformed) -> &'static str {
    match why {
        Malformed::Length => "length",
        Malformed::Seal => "seal",
        Malformed::Version
        | Malformed::Action
        | Malformed::Addresses
        | Malformed::Prefix
        | Malformed::Time
        | Malformed::Ttl
        | Malformed::Services
        | Malformed::NotCanonical => "encoding",
    }
}

fn prefix(prefix: Option<Prefix>) -> Value {
    prefix.map_or(Value::Null, |p| json!(p.to_string()))
}

fn services(services: &Services) -> Value {
    let text = |wanted| match wanted {
        Wanted::Ports(ports) => ports.to_string(),
        Wanted::Named(id) => format!("#{}", hex(&id.0)),
    };
    services.iter().map(text).collect()
}

impl Message {
    /// What it says in the form of the vector files.
    pub fn meaning(&self) -> Value {
        match self {
            Message::Request(r) => json!({
                "action": match r.action { Action::Open => "open", Action::Close => "close" },
                "reply": r.reply,
                "replace": r.replace,
                "source": r.source,
                "v4": prefix(r.v4),
                "v6": prefix(r.v6),
                "services": services(&r.services),
                "time": r.time.0,
                "ttl": r.ttl,
            }),
            Message::Reply(r, _) => json!({
                "status": match r.status {
                    Status::Open => "open",
                    Status::Closed => "closed",
                    Status::Refused => "refused",
                    Status::Failed => "failed",
                    Status::Busy => "busy",
                },
                "time": r.time.0,
                "until": r.until.0,
                "v4": prefix(r.v4),
                "v6": prefix(r.v6),
                "services": services(&r.services),
            }),
        }
    }
}

/// Whether python3 is here; if not, the test is skipped, and in CI that is a failure.
pub fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIPPED {}: needs python3", std::thread::current().name().unwrap_or("?"));
        assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: no python3");
    }
    found
}

/// Runs `tests/interop/spa.py` with these lines on its standard input; it must succeed.
pub fn python<'a>(arguments: impl IntoIterator<Item = &'a str>, input: &[Value]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/spa.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut pipe = child.stdin.take().expect("it has a standard input");
    let text: String = input.iter().map(|line| format!("{line}\n")).collect();
    // In a thread: the answers come while the questions are still being written.
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("python3 ends");
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {said}");
    writer.join().expect("the writer ends").expect("python3 reads all of its input");
    String::from_utf8(stdout).expect("its output is text")
}
