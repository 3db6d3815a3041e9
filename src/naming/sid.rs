//! Security identifiers (MS-DTYP 2.4.2).

use std::fmt;

use thiserror::Error;

/// Text or bytes that are not a SID.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a security identifier")]
pub struct NotASid;

/// A security identifier: revision 1, a 48-bit authority, one to fifteen sub-authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid {
    authority: u64,
    sub_authorities: Vec<u32>,
}

impl Sid {
    /// Strict SDDL text: `S-1-`, decimal numbers without leading zeros, every sub-authority within 32 bits.
    pub fn parse(text: &str) -> Result<Self, NotASid> {
        let mut parts = text.strip_prefix("S-1-").ok_or(NotASid)?.split('-');
        let authority = decimal(parts.next().ok_or(NotASid)?)?;
        let sub_authorities: Vec<u32> =
            parts.map(|part| u32::try_from(decimal(part)?).map_err(|_| NotASid)).collect::<Result<_, _>>()?;
        Self::new(authority, sub_authorities)
    }

    /// From the parts of an RPC_SID or a binary SID.
    pub fn new(authority: u64, sub_authorities: Vec<u32>) -> Result<Self, NotASid> {
        let good = authority < 1 << 48 && (1..=15).contains(&sub_authorities.len());
        if good { Ok(Self { authority, sub_authorities }) } else { Err(NotASid) }
    }

    /// The binary form of directories (MS-DTYP 2.4.2.2): revision, number of sub-authorities, authority in network order,
    /// sub-authorities in little endian, and nothing behind them.
    pub fn from_binary(bytes: &[u8]) -> Result<Self, NotASid> {
        let ([1, count, authority @ ..], rest) = bytes.split_first_chunk::<8>().ok_or(NotASid)? else { return Err(NotASid) };
        let authority = authority.iter().fold(0, |sum: u64, &octet| (sum << 8) | u64::from(octet));
        let (parts, []) = rest.as_chunks::<4>() else { return Err(NotASid) };
        if parts.len() != usize::from(*count) {
            return Err(NotASid);
        }
        Self::new(authority, parts.iter().map(|part| u32::from_le_bytes(*part)).collect())
    }

    /// The binary form, as it stands in `objectSid`.
    pub fn to_binary(&self) -> Vec<u8> {
        // Fifteen sub-authorities at most.
        let count = u8::try_from(self.sub_authorities.len()).unwrap_or_default();
        let [_, _, authority @ ..] = self.authority.to_be_bytes();
        let parts = self.sub_authorities.iter().flat_map(|part| part.to_le_bytes());
        [1, count].into_iter().chain(authority).chain(parts).collect()
    }

    /// The SID of the domain of an account: without its relative identifier. None where nothing would remain.
    pub fn domain(&self) -> Option<Self> {
        let (_, domain) = self.sub_authorities.split_last()?;
        Self::new(self.authority, domain.to_vec()).ok()
    }

    /// The SID with one more sub-authority: an account's SID from its domain's.
    pub fn with_rid(&self, rid: u32) -> Result<Self, NotASid> {
        let mut sub_authorities = self.sub_authorities.clone();
        sub_authorities.push(rid);
        Self::new(self.authority, sub_authorities)
    }

    /// Whether it is of an account or group of a domain: `S-1-5-21-a-b-c-RID`.
    pub fn is_of_domain(&self) -> bool {
        self.authority == 5 && matches!(self.sub_authorities[..], [21, _, _, _, _])
    }

    /// Whether it is of the built-in domain: `S-1-5-32-RID`.
    pub fn is_builtin(&self) -> bool {
        self.authority == 5 && matches!(self.sub_authorities[..], [32, _])
    }

    /// The last sub-authority: the relative identifier of an account.
    pub fn rid(&self) -> u32 {
        self.sub_authorities.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S-1-{}", self.authority)?;
        self.sub_authorities.iter().try_for_each(|part| write!(f, "-{part}"))
    }
}

fn decimal(text: &str) -> Result<u64, NotASid> {
    let canonical = !text.is_empty()
        && text.len() <= 15
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| NotASid) } else { Err(NotASid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_round_trips() {
        let text = "S-1-5-21-294026126-3378245018-1203103949-1001";
        let sid = Sid::parse(text).unwrap();
        assert_eq!((sid.to_string().as_str(), sid.rid()), (text, 1001));
    }

    #[test]
    fn the_binary_form_is_that_of_directories() {
        let bytes =
            b"\x01\x05\x00\x00\x00\x00\x00\x05\x15\x00\x00\x00\x4e\x72\x86\x11\x2a\xe6\x5b\xc9\x6d\x9f\xb7\x47\xe9\x03\x00\x00";
        let sid = Sid::from_binary(bytes).unwrap();
        assert_eq!(sid.to_string(), "S-1-5-21-294023758-3378243114-1203216237-1001");
        assert_eq!(sid.to_binary(), bytes);
        assert_eq!(sid.domain().unwrap().to_string(), "S-1-5-21-294023758-3378243114-1203216237");
        assert_eq!(Sid::parse("S-1-5-18").unwrap().domain(), None);
    }

    #[test]
    fn binary_that_is_cut_or_goes_on_or_lies_about_its_length_is_refused() {
        let good = Sid::parse("S-1-5-21-1-2-3-1001").unwrap().to_binary();
        for length in 0..good.len() {
            assert_eq!(Sid::from_binary(&good[..length]), Err(NotASid), "{length}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let longer = [good.as_slice(), &[0; 4]].concat();
        for bad in [longer, with(0, 2), with(1, 4), with(1, 0), with(1, 255), vec![1, 0, 0, 0, 0, 0, 0, 5], vec![0xFF; 68]] {
            assert_eq!(Sid::from_binary(&bad), Err(NotASid), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_sid_round_trips_in_both_forms(authority in 0_u64..1 << 48, parts in proptest::collection::vec(proptest::num::u32::ANY, 1..16)) {
            let sid = Sid::new(authority, parts).unwrap();
            proptest::prop_assert_eq!(Sid::from_binary(&sid.to_binary()), Ok(sid.clone()));
            proptest::prop_assert_eq!(Sid::parse(&sid.to_string()), Ok(sid));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            if let Ok(sid) = Sid::from_binary(&bytes) {
                proptest::prop_assert_eq!(sid.to_binary(), bytes);
            }
        }
    }

    #[test]
    fn a_sid_has_the_binary_form_that_the_directory_keeps() {
        let sid = Sid::parse("S-1-5-21-1-2-3-513").unwrap();
        let mut expected = vec![1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
        expected.extend([1, 2, 0, 0]);
        assert_eq!(sid.to_binary(), expected);
    }

    #[test]
    fn the_sid_of_an_account_begins_with_its_domains() {
        let sid = Sid::parse("S-1-5-21-1-2-3-513").unwrap();
        assert_eq!(sid.domain(), Some(Sid::parse("S-1-5-21-1-2-3").unwrap()));
        assert!(sid.is_of_domain() && !sid.is_builtin());
        for other in ["S-1-5-21-1-2-3", "S-1-5-21-1-2-3-4-5", "S-1-18-1-2-3-4", "S-1-5-80-1-2-3-4"] {
            assert!(!Sid::parse(other).unwrap().is_of_domain(), "{other}");
        }
        assert!(Sid::parse("S-1-5-32-544").unwrap().is_builtin() && !Sid::parse("S-1-5-32-1-544").unwrap().is_builtin());
    }

    #[test]
    fn anything_but_canonical_sddl_is_refused() {
        for bad in [
            "",
            "S-1-",
            "S-1-5",
            "s-1-5-21",
            "S-1-5-",
            "S-1-5--21",
            "S-1-05-21",
            "S-1-5-4294967296",
            "S-1-5-21 ",
            "S-2-5-21",
            "S-1-5-+1",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
            "S-1-5-0x15",
            "S-1-281474976710656-1",
        ] {
            assert_eq!(Sid::parse(bad), Err(NotASid), "{bad}");
        }
    }
}
