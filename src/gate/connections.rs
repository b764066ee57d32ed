//! Connections: accepted, counted, and ended when there are too many.

use super::io::{Stream, Timers};
use super::{Gate, answer, client};
use crate::access::{Prefix, canonical};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// The largest head of a request: bytes.
const HEAD: usize = 16_384;
/// The most header lines.
const LINES: usize = 64;

/// Who is connected: of each address the oldest connection first.
#[derive(Default)]
struct Table {
    total: usize,
    next: u64,
    of: BTreeMap<Prefix, VecDeque<(u64, oneshot::Sender<()>)>>,
}

impl Table {
    /// Takes another one in; what it waits for to be told to end.
    fn enter(&mut self, unit: Prefix, most: usize, of_one: usize) -> (u64, oneshot::Receiver<()>) {
        if self.of.get(&unit).is_some_and(|list| list.len() >= of_one) {
            self.end_oldest(unit);
        }
        if self.total >= most {
            self.make_room();
        }
        let (end, ended) = oneshot::channel();
        self.next += 1;
        self.total += 1;
        self.of.entry(unit).or_default().push_back((self.next, end));
        (self.next, ended)
    }

    /// Ends the oldest connection of the address that has the most.
    fn make_room(&mut self) {
        let most = self.of.iter().max_by_key(|(_, list)| list.len()).map(|(unit, _)| *unit);
        most.into_iter().for_each(|unit| self.end_oldest(unit));
    }

    fn end_oldest(&mut self, unit: Prefix) {
        let Some(list) = self.of.get_mut(&unit) else { return };
        if let Some((_, end)) = list.pop_front() {
            self.total -= 1;
            let _ = end.send(());
        }
        if list.is_empty() {
            self.of.remove(&unit);
        }
    }

    fn leave(&mut self, unit: Prefix, id: u64) {
        let Some(list) = self.of.get_mut(&unit) else { return };
        if let Some(at) = list.iter().position(|(other, _)| *other == id) {
            list.remove(at);
            self.total -= 1;
        }
        if list.is_empty() {
            self.of.remove(&unit);
        }
    }
}

/// Serves at these listeners for as long as the local task set runs that it is called in.
///
/// # Errors
/// When a listener cannot be used.
pub async fn serve(
    listeners: Vec<std::net::TcpListener>,
    gate: Rc<Gate>,
) -> io::Result<Infallible> {
    let table = Rc::new(RefCell::new(Table::default()));
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        tokio::task::spawn_local(accept(listener, Rc::clone(&gate), Rc::clone(&table)));
    }
    std::future::pending().await
}

async fn accept(listener: TcpListener, gate: Rc<Gate>, table: Rc<RefCell<Table>>) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                let peer = canonical(peer.ip());
                let unit = Prefix::unit(peer);
                let of_one = match client::is_proxy(peer, &gate.site.proxies) {
                    true => usize::MAX,
                    false => gate.limits.of_one,
                };
                let (id, ended) = table.borrow_mut().enter(unit, gate.limits.connections, of_one);
                let (gate, table) = (Rc::clone(&gate), Rc::clone(&table));
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        _ = ended => {}
                        () = talk(tcp, peer, gate) => {}
                    }
                    table.borrow_mut().leave(unit, id);
                });
            }
            Err(e) => {
                // Out of descriptors or memory: somebody has to go before anybody can come.
                log::debug!("accept: {e}");
                table.borrow_mut().make_room();
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// One connection, until either side has had enough.
async fn talk(tcp: TcpStream, peer: IpAddr, gate: Rc<Gate>) {
    // Whoever says nothing costs no buffer.
    if !timeout(gate.limits.patience, tcp.readable()).await.is_ok_and(|ready| ready.is_ok()) {
        return;
    }
    let _ = tcp.set_nodelay(true);
    let stream = Stream::new(tcp, gate.limits.stall);
    let patience = gate.limits.patience;
    let service = service_fn(move |request| {
        let gate = Rc::clone(&gate);
        async move { Ok::<_, Infallible>(answer::to(request, peer, &gate).await) }
    });
    let connection = http1::Builder::new()
        .timer(Timers)
        .header_read_timeout(patience)
        .max_buf_size(HEAD)
        .max_headers(LINES)
        .serve_connection(stream, service);
    let _ = Box::pin(connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Prefix {
        Prefix::unit(text.parse().unwrap())
    }

    #[test]
    fn the_address_with_the_most_makes_room() {
        let mut table = Table::default();
        let (many, few) = (unit("192.0.2.1"), unit("192.0.2.2"));
        let (_, mut lone) = table.enter(few, 4, 9);
        let mut crowd: Vec<_> = (0..3).map(|_| table.enter(many, 4, 9)).collect();
        let (id, _) = table.enter(unit("192.0.2.3"), 4, 9);
        assert!(crowd[0].1.try_recv().is_ok() && crowd[1].1.try_recv().is_err());
        assert!(lone.try_recv().is_err());
        assert_eq!(table.total, 4);
        table.leave(many, crowd[0].0);
        assert_eq!(table.total, 4, "who was ended has left already");
        table.leave(unit("192.0.2.3"), id);
        assert_eq!(table.total, 3);
    }

    #[test]
    fn one_address_has_no_more_than_its_share() {
        let mut table = Table::default();
        let mut all: Vec<_> = (0..5).map(|_| table.enter(unit("2001:db8::1"), 99, 3)).collect();
        assert_eq!(table.total, 3);
        let ended = all.iter_mut().map(|(_, end)| end.try_recv().is_ok()).collect::<Vec<_>>();
        assert_eq!(ended, [true, true, false, false, false]);
    }
}
