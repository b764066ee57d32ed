//! The page that somebody sees who is blocked.

use bytes::Bytes;

const TEMPLATE: &str = include_str!("page.html");
/// Where the template says how the last guess went.
const NOTE: &str = "<!--note-->";

/// What the page may do: its own style, known by its hash, and its own form.
pub(super) const POLICY: &str = "default-src 'none'; \
     style-src 'sha256-RTAQQ+yRlV5nPD0Q5Bq6hlm0kn077pWDR8Vh3BxfLsM='; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page; with `left`, it says that the last guess was wrong.
pub(super) fn blocked(left: Option<u8>) -> Bytes {
    let note = match left {
        None => String::new(),
        Some(0) => note("That was not it. No more tries until this block ends."),
        Some(1) => note("That was not it. One try is left."),
        Some(n) => note(&format!("That was not it. {n} tries are left.")),
    };
    Bytes::from(TEMPLATE.replace(NOTE, &note))
}

fn note(text: &str) -> String {
    format!("<p class=\"note\" id=\"note\" role=\"alert\">{text}</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_many_tries_are_left_and_loads_nothing() {
        let text = |left| String::from_utf8(blocked(left).to_vec()).unwrap();
        assert!(!text(None).contains("That was not it") && !text(None).contains(NOTE));
        assert!(text(Some(3)).contains("3 tries are left"));
        assert!(text(Some(1)).contains("One try is left"));
        for word in ["http:", "https:", "<script", "src=", "url(", "style=\""] {
            assert!(!text(None).contains(word), "{word}");
        }
    }
}
