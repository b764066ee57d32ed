//! The control socket: orders and questions of root on this machine, one line of JSON each way.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// The longest order: bytes.
const LONGEST: u64 = 4_096;
/// How long `[priv]` waits for somebody who has connected and says nothing.
const PATIENCE: Duration = Duration::from_millis(200);

/// What can be asked of a running server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Keep what would be rolled back.
    Confirm,
    /// Read the files again.
    Reload,
    /// Read the files again, and say whether the client of that name is known.
    Revoke(String),
    /// Say how things are.
    Status,
    /// Say what is open.
    Leases,
    /// End every lease on this address or prefix.
    Evict(crate::access::Prefix),
    /// Say who is banned.
    Bans,
    /// End the bans of all that shares an address with this.
    Pardon(crate::access::Prefix),
}

impl Order {
    fn parse(line: &str) -> Option<Order> {
        let mut words = line.split_whitespace();
        let order = match (words.next()?, words.next()) {
            ("confirm", None) => Order::Confirm,
            ("reload", None) => Order::Reload,
            ("revoke", Some(name)) => Order::Revoke(name.into()),
            ("status", None) => Order::Status,
            ("leases", None) => Order::Leases,
            ("evict", Some(address)) => Order::Evict(address.parse().ok()?),
            ("bans", None) => Order::Bans,
            ("pardon", Some(address)) => Order::Pardon(address.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(order)
    }

    fn to_line(&self) -> String {
        match self {
            Order::Confirm => "confirm\n".into(),
            Order::Reload => "reload\n".into(),
            Order::Revoke(name) => format!("revoke {name}\n"),
            Order::Status => "status\n".into(),
            Order::Leases => "leases\n".into(),
            Order::Evict(prefix) => format!("evict {prefix}\n"),
            Order::Bans => "bans\n".into(),
            Order::Pardon(prefix) => format!("pardon {prefix}\n"),
        }
    }
}

/// Opens the socket, which nobody but this user can use.
///
/// # Errors
/// AddrInUse when another server answers there.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match path.symlink_metadata() {
        // What a server that was killed has left behind; nothing else is removed.
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something that is no socket is in its place")),
        Err(_) => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Nobody may connect between the making and the change of the mode.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Reads one order from somebody who has connected.
///
/// # Errors
/// When he says nothing in time, or nothing that is an order; he is told.
pub fn take(listener: &UnixListener) -> io::Result<(UnixStream, Order)> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line)?;
    match Order::parse(&line) {
        Some(order) => Ok((stream, order)),
        None => {
            answer(&stream, &serde_json::json!({ "error": "no such order" }));
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

/// Answers with one line; somebody who does not read it gets none.
pub fn answer(stream: &UnixStream, value: &Value) {
    let mut stream = stream;
    let _ = stream.write_all(format!("{value}\n").as_bytes());
}

/// Sends an order to a running server and returns its answer.
///
/// # Errors
/// When no server answers there within ten seconds.
pub fn ask(path: &Path, order: &Order) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(order.to_line().as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|e| io::Error::other(e.to_string()))
}
