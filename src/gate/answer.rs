//! What a request is answered with.

use super::file::{self, Content, Part};
use super::{Answer, Gate, Question, client, page, path, units};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, LOCATION,
    REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// The largest body that is read: bytes.
const BODY: usize = 1_024;
/// The longest guess: digits.
const DIGITS: usize = 32;
/// No answer is held back for longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Answers one request of that peer.
pub(super) async fn to(
    mut request: Request<Incoming>,
    peer: IpAddr,
    gate: &Gate,
) -> Response<Content> {
    let Some(from) = client::of(peer, request.headers(), &gate.site.proxies) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let wanted = path::wanted(request.uri());
    if gate.is_banned(from) {
        if let Some(pin) = guess(&mut request, wanted.as_deref(), gate).await {
            return judge_guess(from, pin, gate).await;
        }
        // A lease wins over a block, and who holds one is not known here.
        if gate.ask(Question::Strike { from }).await != Some(Answer::Pass) {
            return blocked(None);
        }
    }
    if let Some(name) = &wanted {
        if name == "*" && request.method() == Method::POST {
            // The form of somebody whose block has ended meanwhile.
            return home();
        }
        if let Some(file) = gate.site.files.get(name) {
            return serve(&request, file, gate);
        }
        if gate.site.ignore.contains(name) {
            return empty(StatusCode::NOT_FOUND);
        }
    }
    match gate.ask(Question::Strike { from }).await {
        Some(Answer::Pass | Answer::Pardoned) => home(),
        Some(Answer::Blocked | Answer::Wrong { .. }) => blocked(None),
        None => later(),
    }
}

async fn judge_guess(from: IpAddr, pin: Zeroizing<Vec<u8>>, gate: &Gate) -> Response<Content> {
    match gate.ask(Question::Guess { from, pin }).await {
        Some(Answer::Pardoned) => {
            units(from).iter().for_each(|unit| gate.unban(unit));
            home()
        }
        Some(Answer::Pass) => home(),
        Some(Answer::Wrong { left, delay }) => {
            sleep(delay.min(LONGEST_DELAY)).await;
            blocked(Some(left))
        }
        Some(Answer::Blocked) => blocked(None),
        None => later(),
    }
}

/// The digits that somebody blocked has typed: in the form, or as the path.
async fn guess(
    request: &mut Request<Incoming>,
    wanted: Option<&str>,
    gate: &Gate,
) -> Option<Zeroizing<Vec<u8>>> {
    let wanted = wanted?;
    if wanted == "*" && request.method() == Method::POST {
        let kind = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
        let form = kind.split(';').next()?.trim();
        if !form.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return None;
        }
        let body = timeout(gate.limits.patience, body(request.body_mut())).await.ok()??;
        return field(&body);
    }
    if request.method() != Method::GET || gate.site.files.contains_key(wanted) {
        return None;
    }
    digits(wanted.as_bytes())
}

/// A body that is small enough.
async fn body(body: &mut Incoming) -> Option<Zeroizing<Vec<u8>>> {
    let mut whole = Zeroizing::new(Vec::with_capacity(BODY));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            if whole.len() + data.len() > BODY {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(whole)
}

/// The PIN in a form; people may have typed it in groups.
fn field(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let value = body.split(|b| *b == b'&').find_map(|pair| pair.strip_prefix(b"pin="))?;
    let mut typed = Zeroizing::new(Vec::with_capacity(BODY));
    let mut rest = value;
    while let Some(&first) = rest.first() {
        let (byte, used) = match rest {
            [b'%', b'2', b'0', ..] => (b' ', 3),
            [b'%', b'2', b'D' | b'd', ..] => (b'-', 3),
            [b'+', ..] => (b' ', 1),
            [_, ..] | [] => (first, 1),
        };
        if !matches!(byte, b' ' | b'-') {
            typed.push(byte);
        }
        rest = &rest[used..];
    }
    digits(&typed)
}

fn digits(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let fits = (1..=DIGITS).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    fits.then(|| Zeroizing::new(text.to_vec()))
}

fn serve(request: &Request<Incoming>, path: &Path, gate: &Gate) -> Response<Content> {
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
        set(&mut response, ALLOW, "GET, HEAD");
        return response;
    }
    let opened = match file::open(&gate.site.root, path) {
        Ok(opened) => opened,
        Err(e) => {
            log::warn!("a mapped file cannot be read: {}: {e}", path.display());
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let mut response = empty(StatusCode::OK);
    set(&mut response, CACHE_CONTROL, "no-cache");
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, ETAG, &opened.tag);
    set(&mut response, LAST_MODIFIED, &opened.date());
    let (size, part) = (opened.size, opened.part(request.headers(), !head));
    let (first, length) = match part {
        Part::Whole => (0, size),
        Part::Range(first, last) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            (first, last - first + 1)
        }
        Part::Beyond => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
            return response;
        }
        Part::Changed => {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            return response;
        }
        Part::Known => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
    };
    set(&mut response, CONTENT_TYPE, file::kind(path));
    set(&mut response, CONTENT_LENGTH, &length.to_string());
    if !head {
        *response.body_mut() = opened.into_body(first, length);
    }
    response
}

fn set(response: &mut Response<Content>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn empty(status: StatusCode) -> Response<Content> {
    let mut response = Response::new(Content::Bytes(Bytes::new()));
    *response.status_mut() = status;
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// The way to the first page.
fn home() -> Response<Content> {
    let mut response = empty(StatusCode::SEE_OTHER);
    set(&mut response, LOCATION, "/");
    response
}

/// Nobody is there who could decide.
fn later() -> Response<Content> {
    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
    set(&mut response, RETRY_AFTER, "5");
    set(&mut response, CONNECTION, "close");
    response
}

fn blocked(left: Option<u8>) -> Response<Content> {
    let mut response = empty(StatusCode::FORBIDDEN);
    set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    set(&mut response, CONTENT_SECURITY_POLICY, page::POLICY);
    set(&mut response, X_FRAME_OPTIONS, "DENY");
    set(&mut response, REFERRER_POLICY, "no-referrer");
    *response.body_mut() = Content::Bytes(page::blocked(left));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_may_be_typed_in_groups_and_nothing_else_is_one() {
        let of =
            |text: &str| field(text.as_bytes()).map(|d| String::from_utf8(d.to_vec()).unwrap());
        assert_eq!(of("pin=123456789012").as_deref(), Some("123456789012"));
        assert_eq!(of("x=1&pin=1234+5678%209012").as_deref(), Some("123456789012"));
        assert_eq!(of("pin=1234-5678%2D9").as_deref(), Some("123456789"));
        for wrong in [
            "",
            "pin=",
            "pin=12a",
            "pin=%31",
            "PIN=1",
            "pins=1",
            &format!("pin={}", "1".repeat(33)),
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
