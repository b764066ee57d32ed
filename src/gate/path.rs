//! Which path a request means: one strict percent-decoding, and nothing else is made of it.

use http::Uri;

/// The path without its slash; `*` for `/` alone. None: it is the path of nothing.
///
/// A client has one way to write what the map holds, and every other one is an unknown path, so
/// nothing that somebody further back understands differently gets through.
pub(super) fn wanted(uri: &Uri) -> Option<String> {
    // The absolute form is for proxies, and this is none.
    if uri.scheme().is_some() || uri.authority().is_some() {
        return None;
    }
    let path = uri.path().strip_prefix('/')?;
    if path.is_empty() {
        return Some("*".to_string());
    }
    let decoded = decode(path)?;
    let plain = |c: char| !c.is_control() && !matches!(c, '?' | '#' | '\\');
    let whole = decoded.split('/').all(|part| !matches!(part, "" | "." | ".."));
    // A literal star is no name of the first page.
    (decoded.chars().all(plain) && whole && decoded != "*").then_some(decoded)
}

/// Decodes each `%XX` once; an encoded slash or percent sign would be a second meaning.
fn decode(text: &str) -> Option<String> {
    let digit = |b: Option<u8>| char::from(b?).to_digit(16).map(|d| d as u8);
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        match high << 4 | low {
            b'/' | b'%' | b'.' | b'\\' => return None,
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        wanted(&text.parse().unwrap())
    }

    #[test]
    fn plain_paths_mean_themselves() {
        assert_eq!(of("/").as_deref(), Some("*"));
        assert_eq!(of("/a.html").as_deref(), Some("a.html"));
        assert_eq!(of("/a/b%20c?x=1").as_deref(), Some("a/b c"));
        assert_eq!(of("/gr%C3%BC%C3%9Fe").as_deref(), Some("grüße"));
    }

    #[test]
    fn tricks_are_the_path_of_nothing() {
        for trick in [
            "/../etc/passwd",
            "/a/../a",
            "/a/./a",
            "//a",
            "/a//b",
            "/a/",
            "/%2e%2e/a",
            "/a%2fb",
            "/%00",
            "/a%0a",
            "/%",
            "/%4",
            "/%zz",
            "/%252e",
            "/a%5cb",
            "/a\\b",
            "/%ff",
            "/%c0%ae",
            "http://host/a.html",
            "/*",
            "*",
            "/%2a",
        ] {
            assert_eq!(of(trick), None, "{trick}");
        }
    }
}
