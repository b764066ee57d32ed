//! Where our rules live: in a table of our own, or as guests in one of the machine's (pinhole).

use super::{Error, Form};
use netlink_bindings::nftables::Nfgenmsg;
use std::borrow::Cow;
use std::ffi::{CStr, CString};

/// NFPROTO_INET, NFPROTO_IPV4 and NFPROTO_IPV6.
const FAMILIES: [(&str, u8); 3] = [("inet", 1), ("ip", 2), ("ip6", 10)];
/// Before the names of our sets where others have names too.
const PREFIX: &str = "opensesame-";
/// Our chain there.
pub(super) const GUEST: &CStr = c"opensesame";

/// A table, and how we are in it.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// NFPROTO_*.
    pub(super) family: u8,
    /// The table's name.
    pub(super) table: CString,
    /// The foreign chain that asks ours first; none where the table is ours.
    pub(super) host: Option<CString>,
}

impl Home {
    /// Our own table, `inet opensesame`.
    pub(super) fn own() -> Home {
        Home { family: 1, table: c"opensesame".into(), host: None }
    }

    /// The one for this form.
    pub(super) fn of(form: &Form) -> Result<Home, Error> {
        let (table, chain) = match form {
            Form::Shield | Form::Mark(_) => return Ok(Home::own()),
            Form::Chain { table, chain } => (table, chain),
        };
        let wrong = || Error::Refused(format!("no FAMILY NAME of a table: {table}"));
        let (family, name) = table.split_once(' ').ok_or_else(wrong)?;
        let family = FAMILIES.iter().find(|(f, _)| *f == family).ok_or_else(wrong)?.1;
        let text = |text: &str| CString::new(text).map_err(|_| wrong());
        Ok(Home { family, table: text(name)?, host: Some(text(chain)?) })
    }

    /// The header of every message about it.
    pub(super) fn header(&self) -> Nfgenmsg {
        Nfgenmsg { nfgen_family: self.family, ..Nfgenmsg::default() }
    }

    /// What a set of ours is called in it.
    pub(super) fn named<'a>(&self, name: &'a CStr) -> Cow<'a, CStr> {
        match &self.host {
            None => name.into(),
            Some(_) => {
                let bytes = [PREFIX.as_bytes(), name.to_bytes()].concat();
                CString::new(bytes).unwrap_or_default().into()
            }
        }
    }

    /// Which set of ours is called so in it, if one is.
    pub(super) fn meant<'a>(&self, name: &'a CStr) -> Option<&'a CStr> {
        match &self.host {
            None => Some(name),
            Some(_) => {
                let rest = name.to_bytes_with_nul().strip_prefix(PREFIX.as_bytes())?;
                CStr::from_bytes_with_nul(rest).ok()
            }
        }
    }

    /// For people, as nft would be told.
    pub(super) fn shown(&self) -> String {
        let family = FAMILIES.iter().find(|(_, f)| *f == self.family).map_or("?", |(f, _)| f);
        format!("{family} {}", self.table.to_string_lossy())
    }
}
