//! The thread of `[engine]` that waits for the disk.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

type Synced = (u64, io::Result<()>);

/// A thread that waits for the disk, so that nobody else has to.
pub(super) struct Syncer {
    orders: mpsc::Sender<(u64, File)>,
    results: mpsc::Receiver<Synced>,
    /// Readable when there is a result.
    pub(super) woken: UnixStream,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Syncer> {
        let (orders, inbox) = mpsc::channel::<(u64, File)>();
        let (outbox, results) = mpsc::channel();
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        std::thread::Builder::new().name("sync".into()).stack_size(64 << 10).spawn(move || {
            for (ticket, file) in inbox {
                let result = file.sync_data();
                if outbox.send((ticket, result)).is_err() {
                    return;
                }
                let _ = io::Write::write(&mut &wake, &[1]);
            }
        })?;
        Ok(Syncer { orders, results, woken })
    }

    pub(super) fn ask(&self, ticket: u64, file: File) {
        // The thread lives as long as this end of the channel.
        let _ = self.orders.send((ticket, file));
    }

    pub(super) fn done(&self) -> Vec<Synced> {
        let mut bytes = [0; 64];
        while io::Read::read(&mut &self.woken, &mut bytes).is_ok_and(|n| n > 0) {}
        self.results.try_iter().collect()
    }
}
