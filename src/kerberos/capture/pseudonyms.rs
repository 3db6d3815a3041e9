//! Example names in the place of real ones: the same for the same throughout one recording.

use std::collections::HashMap;

use crate::der::DerError;
use crate::naming::sid::Sid;

/// What stands for bytes that say nothing to us.
pub(super) const FILLER: u8 = 0x2A;

/// Parts of names that every domain has.
const COMMON: &[&str] = &["krbtgt", "kadmin", "changepw", "WELLKNOWN", "ANONYMOUS", "HTTP", "http", "HOST", "host"];
/// Relative identifiers below are the same in every domain (MS-DTYP 2.4.2.4).
const FIRST_OWN_RID: u32 = 1000;
/// Shorter names stand in any bytes by chance.
const MIN_SOUGHT: usize = 4;

/// Why something is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

impl From<DerError> for Unreadable {
    fn from(_: DerError) -> Self {
        Self("not the DER that was expected")
    }
}

/// What is put for what while a capture is copied. The copy with [`AsItIs`] must be the original, or nothing is written.
pub(super) trait Substitute {
    /// For a name: of a user, a host, a domain, `service`, `name@domain`.
    fn name(&mut self, name: &str) -> String;
    /// For text in words, a path or a salt.
    fn words(&mut self, words: &[u8]) -> Vec<u8>;
    /// For bytes of unknown meaning.
    fn opaque(&mut self, bytes: &[u8]) -> Vec<u8>;
    /// For a SID's binary form.
    fn sid(&mut self, sid: &[u8]) -> Result<Vec<u8>, Unreadable>;
    /// For the relative identifier of an account or a group.
    fn rid(&mut self, rid: u32) -> u32;
    /// For a FILETIME of the account's life.
    fn time(&mut self, time: u64) -> u64;
    /// For the FILETIME of the authentication.
    fn auth_time(&mut self, time: u64) -> u64;
    /// For a number of logons.
    fn count(&mut self, count: u32) -> u32;
}

/// Puts everything for itself.
pub(super) struct AsItIs;

impl Substitute for AsItIs {
    fn name(&mut self, name: &str) -> String {
        name.to_owned()
    }

    fn words(&mut self, words: &[u8]) -> Vec<u8> {
        words.to_vec()
    }

    fn opaque(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    fn sid(&mut self, sid: &[u8]) -> Result<Vec<u8>, Unreadable> {
        checked(sid).map(|_| sid.to_vec())
    }

    fn rid(&mut self, rid: u32) -> u32 {
        rid
    }

    fn time(&mut self, time: u64) -> u64 {
        time
    }

    fn auth_time(&mut self, time: u64) -> u64 {
        time
    }

    fn count(&mut self, count: u32) -> u32 {
        count
    }
}

/// Names and numbers of one recording.
#[derive(Debug, Default)]
pub(super) struct Pseudonyms {
    /// by what is written for them in lower case
    labels: HashMap<String, usize>,
    domains: HashMap<String, usize>,
    /// the three numbers of a domain's SID
    domain_sids: HashMap<[u32; 3], u32>,
    rids: HashMap<u32, u32>,
}

/// Ten-thousandths of a millisecond in a second (MS-DTYP 2.3.3).
const TICKS: u64 = 10_000_000;
/// Seconds from 1601, where FILETIME begins, to 1970.
const FILETIME_EPOCH: i64 = 11_644_473_600;

impl Pseudonyms {
    /// The realm becomes the first example domain.
    pub(super) fn new(realm: &str) -> Self {
        let mut names = Self::default();
        names.domain(realm);
        names
    }

    fn label(&mut self, label: &str) -> String {
        if label.is_empty() || COMMON.contains(&label) {
            return label.to_owned();
        }
        let (stem, suffix) = label.strip_suffix('$').map_or((label, ""), |stem| (stem, "$"));
        let number = numbered(&mut self.labels, stem);
        cased(stem, &format!("name{number}")) + suffix
    }

    fn domain(&mut self, domain: &str) -> String {
        if domain.is_empty() {
            return String::new();
        }
        let number = numbered(&mut self.domains, domain);
        cased(domain, &format!("domain{number}.example"))
    }

    /// Whether a real name, however short, is a word of this text.
    pub(super) fn is_word_of(&self, text: &str) -> bool {
        let lower = text.to_lowercase();
        let mut words = lower.split(|c: char| !c.is_alphanumeric());
        words.any(|word| self.labels.keys().chain(self.domains.keys()).any(|name| name.to_lowercase() == word))
    }

    /// Whether a real name, or a real domain's SID, still stands in these bytes: as text, as UTF-16, in any letter case.
    pub(super) fn stands_in(&self, bytes: &[u8]) -> bool {
        let lower = bytes.to_ascii_lowercase();
        let contains = |wanted: &[u8]| !wanted.is_empty() && lower.windows(wanted.len()).any(|window| window == wanted);
        let names = self.labels.keys().chain(self.domains.keys()).filter(|name| name.chars().count() >= MIN_SOUGHT);
        let mut forms = names.flat_map(|name| [name.as_bytes().to_vec(), utf16(name)]);
        let mut sids = self.domain_sids.keys();
        forms.any(|form| contains(&form.to_ascii_lowercase()))
            || sids.any(|sid| {
                let [a, b, c] = sid;
                let binary: Vec<u8> = sid.iter().flat_map(|part| part.to_le_bytes()).collect();
                contains(&binary.to_ascii_lowercase()) || contains(format!("{a}-{b}-{c}").as_bytes())
            })
    }
}

impl Substitute for Pseudonyms {
    fn name(&mut self, name: &str) -> String {
        if let Some((user, domain)) = name.rsplit_once('@') {
            return format!("{}@{}", self.label(user), self.domain(domain));
        }
        match name.split_once('.') {
            Some((host, domain)) if self.domains.contains_key(&domain.to_lowercase()) => {
                format!("{}.{}", self.label(host), self.domain(domain))
            }
            Some(_) => self.domain(name),
            None => self.label(name),
        }
    }

    fn words(&mut self, words: &[u8]) -> Vec<u8> {
        if words.is_empty() { Vec::new() } else { b"words".to_vec() }
    }

    fn opaque(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.iter().all(|&byte| byte == 0) { bytes.to_vec() } else { vec![FILLER; bytes.len()] }
    }

    /// Well-known SIDs stay; of a domain's, its three numbers and what it numbered itself are replaced; of others, all but the first
    /// number.
    fn sid(&mut self, sid: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let (authority, mut parts) = checked(sid)?;
        match (authority, parts.as_mut_slice()) {
            // Claims and compounded authentication (MS-DTYP 2.4.2.4).
            (5, [21, 0, 0, 0, ..]) | (5 | 1 | 2 | 3 | 16 | 18, [_]) => {}
            (5, [32, rid]) if *rid < FIRST_OWN_RID => {}
            (5, [21, a, b, c, rids @ ..]) => {
                let next = u32::try_from(self.domain_sids.len()).unwrap_or(u32::MAX).saturating_add(1);
                let number = *self.domain_sids.entry([*a, *b, *c]).or_insert(next);
                (*a, *b, *c) = (1_000_000_000 + number, 2_000_000_000 + number, 3_000_000_000 + number);
                for rid in rids {
                    *rid = self.rid(*rid);
                }
            }
            (_, others) => {
                for part in others.iter_mut().skip(1) {
                    *part = self.rid(part.saturating_add(FIRST_OWN_RID));
                }
            }
        }
        Sid::new(authority, parts).map(|sid| sid.to_binary()).map_err(|_| Unreadable("a SID out of range"))
    }

    fn rid(&mut self, rid: u32) -> u32 {
        if rid < FIRST_OWN_RID {
            return rid;
        }
        let next = FIRST_OWN_RID + u32::try_from(self.rids.len()).unwrap_or_default();
        *self.rids.entry(rid).or_insert(next)
    }

    /// Never (zero, or all bits but the sign) stays.
    fn time(&mut self, time: u64) -> u64 {
        if time == 0 || time >= 0x7FFF_FFFF_FFFF_FFFF { time } else { example_filetime() }
    }

    /// What is below a second stays: servers differ there.
    fn auth_time(&mut self, time: u64) -> u64 {
        example_filetime() + time % TICKS
    }

    fn count(&mut self, _: u32) -> u32 {
        0
    }
}

/// [`super::EXAMPLE_TIME`] as a FILETIME.
fn example_filetime() -> u64 {
    (super::EXAMPLE_TIME + FILETIME_EPOCH).unsigned_abs() * TICKS
}

/// Authority and sub-authorities of a SID's binary form.
fn checked(sid: &[u8]) -> Result<(u64, Vec<u32>), Unreadable> {
    let malformed = Unreadable("a malformed SID");
    Sid::from_binary(sid).map_err(|_| malformed)?;
    let ([_, _, authority @ ..], rest) = sid.split_first_chunk::<8>().ok_or(malformed)?;
    let authority = authority.iter().fold(0, |sum: u64, &octet| (sum << 8) | u64::from(octet));
    Ok((authority, rest.as_chunks::<4>().0.iter().map(|part| u32::from_le_bytes(*part)).collect()))
}

fn numbered(names: &mut HashMap<String, usize>, name: &str) -> usize {
    let next = names.len() + 1;
    *names.entry(name.to_lowercase()).or_insert(next)
}

/// In capitals where the original has no small letters.
fn cased(original: &str, example: &str) -> String {
    if original.chars().any(char::is_lowercase) { example.to_owned() } else { example.to_uppercase() }
}

/// UTF-16LE.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(names: &mut Pseudonyms, text: &str) -> String {
        Sid::from_binary(&names.sid(&Sid::parse(text).unwrap().to_binary()).unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_same_name_gets_the_same_example_in_every_form_and_letter_case() {
        let mut names = Pseudonyms::new("CORP.EXAMPLE");
        assert_eq!(names.name("CORP.EXAMPLE"), "DOMAIN1.EXAMPLE");
        assert_eq!(names.name("Alice@corp.example"), "name1@domain1.example");
        assert_eq!(names.name("alice"), "name1");
        assert_eq!(names.name("mbx1.corp.example"), "name2.domain1.example");
        assert_eq!(names.name("MBX1$"), "NAME2$");
        assert_eq!(names.name("other.test"), "domain2.example");
        assert_eq!(names.name("a@b@c"), "name3@domain3.example");
        for common in ["krbtgt", "HTTP", ""] {
            assert_eq!(names.name(common), common);
        }
    }

    #[test]
    fn well_known_sids_and_rids_stay_and_all_others_are_replaced() {
        let mut names = Pseudonyms::new("CORP.EXAMPLE");
        for known in ["S-1-18-1", "S-1-5-11", "S-1-5-32-544", "S-1-5-21-0-0-0-497", "S-1-1-0"] {
            assert_eq!(sid(&mut names, known), known);
        }
        let domain = "S-1-5-21-294026126-3378245018-1203103949";
        let example = "S-1-5-21-1000000001-2000000001-3000000001";
        assert_eq!(sid(&mut names, domain), example);
        assert_eq!(sid(&mut names, &format!("{domain}-512")), format!("{example}-512"));
        assert_eq!(sid(&mut names, &format!("{domain}-4711")), format!("{example}-1000"));
        assert_eq!(names.rid(4711), 1000);
        assert_eq!((names.rid(4712), names.rid(513)), (1001, 513));
        let service = sid(&mut names, "S-1-5-80-3139157870-2983391045-3678747466-658725712-1809340420");
        assert!(!service.contains("3139157870") && service.starts_with("S-1-5-80-100"), "{service}");
        assert_eq!(names.sid(&[1, 1, 0]), Err(Unreadable("a malformed SID")));
    }

    #[test]
    fn a_real_name_that_is_left_is_found_in_any_encoding() {
        let mut names = Pseudonyms::new("CORP.EXAMPLE");
        names.name("alice@corp.example");
        let domain = Sid::parse("S-1-5-21-294026126-3378245018-1203103949").unwrap().to_binary();
        names.sid(&domain).unwrap();
        for left in [b"..ALICE..".to_vec(), utf16("xAliceX"), b"krbtgt/CORP.example".to_vec(), [&[9, 9], &domain[..]].concat()] {
            assert!(names.stands_in(&left), "{left:?}");
        }
        assert!(names.stands_in(b"S-1-5-21-294026126-3378245018-1203103949-500"));
        assert!(!names.stands_in(b"name1@domain1.example of S-1-5-21-1000000001-2000000001-3000000001"));
    }

    proptest::proptest! {
        #[test]
        fn no_name_stays(name in "[a-z]{4,12}[0-9]{2}", domain in "[a-z]{4,9}\\.test") {
            let mut names = Pseudonyms::new(&domain.to_uppercase());
            for text in [name.clone(), format!("{name}@{domain}"), format!("{name}.{domain}"), format!("{}$", name.to_uppercase())] {
                let example = names.name(&text);
                proptest::prop_assert!(!names.stands_in(example.as_bytes()), "{}", example);
            }
        }
    }
}
