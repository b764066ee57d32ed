//! A mapped file: opened below the root, and what of it is wanted.

use bytes::Bytes;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

/// So much of a file is in memory for one connection: bytes.
const PIECE: u64 = 32_768;

/// A regular file as it was when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    pub(super) size: u64,
    pub(super) tag: String,
    modified: SystemTime,
}

/// Opens a file of the map, part by part; no part of the way may be a link.
pub(super) fn open(root: &OwnedFd, path: &Path) -> io::Result<Opened> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut parts = path.iter().peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let flags = match parts.peek() {
            Some(_) => flags | OFlag::O_DIRECTORY,
            None => flags,
        };
        let dir = at.as_ref().unwrap_or(root).as_fd();
        at = Some(openat(dir, part, flags, Mode::empty())?);
    }
    let file = File::from(at.ok_or(io::ErrorKind::NotFound)?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // What a date of HTTP can say (RFC 9110, section 5.6.7), with a margin.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_000_000_000);
    let modified = meta.modified()?.clamp(SystemTime::UNIX_EPOCH, latest);
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", meta.len(), since.as_nanos());
    Ok(Opened { file, size: meta.len(), tag, modified })
}

/// What of a file goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last of these bytes.
    Range(u64, u64),
    /// What was asked for lies behind its end.
    Beyond,
    /// The client has it already.
    Known,
    /// It is not what the client asked for a part of.
    Changed,
}

impl Opened {
    /// Last-Modified.
    pub(super) fn date(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// What a request wants of it (RFC 9110, sections 13 and 14).
    pub(super) fn part(&self, headers: &HeaderMap, ranges: bool) -> Part {
        let mut wanted = headers.get_all(IF_MATCH).iter().peekable();
        if wanted.peek().is_some() && !wanted.any(|line| self.is_among(line, false)) {
            return Part::Changed;
        }
        if self.is_known(headers) {
            return Part::Known;
        }
        let one = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let current = one(IF_RANGE).is_none_or(|v| v == self.tag || v == self.date());
        let once = headers.get_all(RANGE).iter().count() == 1;
        match one(RANGE).filter(|_| ranges && current && once) {
            Some(text) => range(text, self.size),
            None => Part::Whole,
        }
    }

    /// Whether its tag is in such a list; `weak`: also as a weak one.
    fn is_among(&self, line: &HeaderValue, weak: bool) -> bool {
        let is_it = |tag: &str| {
            let strong = tag.strip_prefix("W/").filter(|_| weak).unwrap_or(tag);
            tag == "*" || strong == self.tag
        };
        line.to_str().is_ok_and(|line| line.split(',').any(|tag| is_it(tag.trim())))
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let mut tags = headers.get_all(IF_NONE_MATCH).iter().peekable();
        if tags.peek().is_some() {
            return tags.any(|line| self.is_among(line, true));
        }
        let since = headers.get(IF_MODIFIED_SINCE).and_then(|v| v.to_str().ok());
        // Dates have no fractions of a second.
        since
            .and_then(|text| httpdate::parse_http_date(text).ok())
            .is_some_and(|since| self.modified < since + Duration::from_secs(1))
    }

    /// Its bytes from `first`, `length` of them.
    pub(super) fn into_body(self, first: u64, length: u64) -> Content {
        Content::File { file: self.file, at: first, left: length }
    }
}

/// One range; several of them, and what is none, mean the whole file.
fn range(text: &str, size: u64) -> Part {
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|r| r.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |t: &str| -> Option<u64> {
        let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| t.parse().unwrap_or(u64::MAX))
    };
    match (number(from), number(to)) {
        (Some(first), _) if to.is_empty() && first < size => Part::Range(first, size - 1),
        (Some(first), _) if to.is_empty() && first >= size => Part::Beyond,
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), Some(_)) if first >= size => Part::Beyond,
        (Some(first), Some(last)) => Part::Range(first, last.min(size - 1)),
        (None, Some(0)) if from.is_empty() => Part::Beyond,
        (None, Some(_)) if from.is_empty() && size == 0 => Part::Beyond,
        (None, Some(count)) if from.is_empty() => Part::Range(size.saturating_sub(count), size - 1),
        (Some(_) | None, _) => Part::Whole,
    }
}

/// The type that the end of a name stands for.
pub(super) fn kind(path: &Path) -> &'static str {
    let end = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    match end.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "md" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => "application/octet-stream",
    }
}

/// What an answer carries.
#[derive(Debug)]
pub(super) enum Content {
    /// So many bytes that are at hand; possibly none.
    Bytes(Bytes),
    /// A file, read piece by piece as the connection takes it.
    File {
        /// Which.
        file: File,
        /// Where the next piece begins.
        at: u64,
        /// So much is to come.
        left: u64,
    },
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut *self {
            Content::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Bytes(bytes) => std::mem::take(bytes),
            Content::File { left: 0, .. } => return Poll::Ready(None),
            Content::File { file, at, left } => {
                let mut piece = vec![0; PIECE.min(*left) as usize];
                // A file that has become shorter breaks the connection: its length has been said.
                let read = match file.read_at(&mut piece, *at) {
                    Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                    Ok(read) => read,
                    Err(e) => return Poll::Ready(Some(Err(e))),
                };
                piece.truncate(read);
                *at += read as u64;
                *left -= read as u64;
                Bytes::from(piece)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { left, .. } => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, size, wanted) in [
            ("bytes=0-0", 10, Part::Range(0, 0)),
            ("bytes=2-", 10, Part::Range(2, 9)),
            ("bytes=2-99", 10, Part::Range(2, 9)),
            ("bytes=-3", 10, Part::Range(7, 9)),
            ("bytes=-30", 10, Part::Range(0, 9)),
            ("bytes=10-", 10, Part::Beyond),
            ("bytes=10-12", 10, Part::Beyond),
            ("bytes=-0", 10, Part::Beyond),
            ("bytes=0-", 0, Part::Beyond),
            ("bytes=-1", 0, Part::Beyond),
            ("bytes=99999999999999999999999-", 10, Part::Beyond),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=0-1,4-5", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=+1-2", 10, Part::Whole),
            ("lines=1-2", 10, Part::Whole),
        ] {
            assert_eq!(range(text, size), wanted, "{text} of {size}");
        }
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_a_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/a.txt"), "a").unwrap();
        std::os::unix::fs::symlink("in/a.txt", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("in", dir.path().join("way")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        let root: OwnedFd = File::open(dir.path()).unwrap().into();
        assert_eq!(open(&root, Path::new("in/a.txt")).unwrap().size, 1);
        for wrong in ["link", "way/a.txt", "in", "fifo", "none", ""] {
            assert!(open(&root, Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
