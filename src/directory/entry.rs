//! One entry of an answer: names and octets, nothing interpreted.

use ldap3::ResultEntry;
use ldap3::asn1::{PL, StructureTag};

/// An object as the server shows it (SearchResultEntry, RFC 4511 section 4.5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) dn: String,
    /// Descriptions with their options, as the server wrote them.
    pub(super) attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// From the library's tree; its own reading panics on some, and sorts values by whether they happen to be UTF-8.
    pub(super) fn read(entry: ResultEntry) -> Option<Self> {
        let [dn, attributes] = constructed(entry.0)?;
        let attributes = match attributes.payload {
            PL::C(attributes) => attributes.into_iter().map(attribute).collect::<Option<_>>()?,
            PL::P(_) => return None,
        };
        Some(Self { dn: text(dn)?, attributes })
    }

    /// The values of an attribute, whatever letters its name is written in. None where there is none.
    pub(super) fn values(&self, name: &str) -> &[Vec<u8>] {
        let found = self.attributes.iter().find(|(description, _)| description.eq_ignore_ascii_case(name));
        found.map_or(&[], |(_, values)| values)
    }

    /// An attribute of which the server shows only a part (MS-ADTS 3.1.1.3.1.3.3).
    pub(super) fn ranged(&self) -> Option<&str> {
        let mut descriptions = self.attributes.iter().map(|(description, _)| description.as_str());
        descriptions.find(|description| {
            description.split(';').skip(1).any(|option| option.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("range=")))
        })
    }
}

fn attribute(attribute: StructureTag) -> Option<(String, Vec<Vec<u8>>)> {
    let [description, values] = constructed(attribute)?;
    let PL::C(values) = values.payload else { return None };
    Some((text(description)?, values.into_iter().map(octets).collect::<Option<_>>()?))
}

fn constructed(tag: StructureTag) -> Option<[StructureTag; 2]> {
    match tag.payload {
        PL::C(parts) => parts.try_into().ok(),
        PL::P(_) => None,
    }
}

fn octets(tag: StructureTag) -> Option<Vec<u8>> {
    match tag.payload {
        PL::P(octets) => Some(octets),
        PL::C(_) => None,
    }
}

fn text(tag: StructureTag) -> Option<String> {
    String::from_utf8(octets(tag)?).ok()
}
