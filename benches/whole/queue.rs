//! What waits in a server's socket: who sends more than it holds measures his own losses.

use crate::space::{Host, Space};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The most bytes that wait before a sender waits, by the kernel's own count of memory: a batch more
/// still fits the default size of a socket's buffer.
const FULL: u64 = 128 << 10;

pub struct Queue {
    tables: Vec<File>,
    port: String,
}

impl Queue {
    pub fn new(space: &Space, port: u16) -> Queue {
        let open = |name| File::open(format!("/proc/thread-self/net/{name}")).ok();
        // A table that was opened there shows that host, whoever reads it.
        let tables =
            space.enter(Host::Server, || ["udp", "udp6"].into_iter().filter_map(open).collect());
        Queue { tables, port: format!(":{port:04X}") }
    }

    pub fn is_full(&mut self) -> bool {
        self.waiting() > FULL
    }

    /// Bytes, of all sockets of the port. proc_net(5): the local address is the second field, and the
    /// fifth has what waits to be sent and to be read.
    fn waiting(&mut self) -> u64 {
        let mut sum = 0;
        for table in &mut self.tables {
            let mut text = String::new();
            table.seek(SeekFrom::Start(0)).unwrap();
            table.read_to_string(&mut text).unwrap();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if fields[1].ends_with(&self.port) {
                    let (_, read) = fields[4].split_once(':').unwrap();
                    sum += u64::from_str_radix(read, 16).unwrap();
                }
            }
        }
        sum
    }
}
