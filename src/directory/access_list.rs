//! Who may act on behalf of others towards an account: msDS-AllowedToActOnBehalfOfOtherIdentity, a security descriptor
//! (MS-ADTS 6.1.4.9) in self-relative form (MS-DTYP 2.4.6), of which the discretionary access control list counts (MS-DTYP 2.4.5).

use crate::naming::sid::Sid;

/// Entries of the largest list that fits its 16-bit size.
const MAX_ENTRIES: u16 = 4096;

/// What is asked for: ADS_RIGHT_DS_CONTROL_ACCESS (MS-ADTS 5.1.3.2); GENERIC_ALL contains it.
const CONTROL_ACCESS: u32 = 0x0000_0100;
const GENERIC_ALL: u32 = 0x1000_0000;

/// SECURITY_DESCRIPTOR_CONTROL: DP, SR.
const DACL_PRESENT: u16 = 0x0004;
const SELF_RELATIVE: u16 = 0x8000;

/// ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE; INHERIT_ONLY_ACE counts for other objects.
const ALLOWED: u8 = 0;
const DENIED: u8 = 1;
const INHERIT_ONLY: u8 = 0x08;

/// A discretionary access control list, as far as it decides about delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    /// In their order, which decides; none: there is no list, and everybody may.
    entries: Option<Vec<(bool, Sid)>>,
}

impl AccessList {
    /// A list that lets these through.
    #[cfg(test)]
    pub(crate) fn of(sids: &[Sid]) -> Self {
        Self { entries: Some(sids.iter().map(|sid| (true, sid.clone())).collect()) }
    }

    /// Reads a self-relative security descriptor. Entries of other kinds (conditional, of objects, for audits) are passed over: they
    /// are not what tools write here.
    pub(super) fn parse(descriptor: &[u8]) -> Option<Self> {
        let (head, _) = descriptor.split_first_chunk::<20>()?;
        let [1, _, control_low, control_high, ..] = *head else { return None };
        let control = u16::from_le_bytes([control_low, control_high]);
        if control & SELF_RELATIVE == 0 {
            return None;
        }
        let dacl = usize::try_from(u32::from_le_bytes(*head.last_chunk::<4>()?)).ok()?;
        if control & DACL_PRESENT == 0 || dacl == 0 {
            return Some(Self { entries: None });
        }
        entries(descriptor.get(dacl..)?).map(|entries| Self { entries: Some(entries) })
    }

    /// Whether somebody with these SIDs (the account's own, and its groups') is let through: the first entry that names one of them
    /// decides (MS-DTYP 2.5.3.2).
    pub fn allows(&self, sids: &[Sid]) -> bool {
        let Some(entries) = &self.entries else { return true };
        entries.iter().find(|(_, sid)| sids.contains(sid)).is_some_and(|(allowed, _)| *allowed)
    }

    /// Whether it lets nobody at all.
    pub fn is_empty(&self) -> bool {
        self.entries.as_ref().is_some_and(|entries| !entries.iter().any(|(allowed, _)| *allowed))
    }
}

/// ACL (MS-DTYP 2.4.5): revision, padding, size, count, padding, and so many entries.
fn entries(acl: &[u8]) -> Option<Vec<(bool, Sid)>> {
    let (&[revision, _, size_low, size_high, count_low, count_high, _, _], _) = acl.split_first_chunk::<8>()?;
    let (size, count) = (u16::from_le_bytes([size_low, size_high]), u16::from_le_bytes([count_low, count_high]));
    if !matches!(revision, 2 | 4) || count > MAX_ENTRIES {
        return None;
    }
    let mut rest = acl.get(8..usize::from(size))?;
    let mut entries = Vec::new();
    for _ in 0..count {
        // ACE_HEADER (MS-DTYP 2.4.4.1): type, flags, size.
        let (&[kind, flags, low, high], _) = rest.split_first_chunk::<4>()?;
        let (entry, after) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        let body = entry.get(4..)?;
        rest = after;
        if !matches!(kind, ALLOWED | DENIED) || flags & INHERIT_ONLY != 0 {
            continue;
        }
        let (mask, sid) = body.split_first_chunk::<4>()?;
        // An entry may be larger than its SID.
        let sid = sid.get(..8 + 4 * usize::from(*sid.get(1)?))?;
        let sid = Sid::from_binary(sid).ok()?;
        if u32::from_le_bytes(*mask) & (CONTROL_ACCESS | GENERIC_ALL) != 0 {
            entries.push((kind == ALLOWED, sid));
        }
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sid(rid: u32) -> Sid {
        Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap()
    }

    fn entry(kind: u8, flags: u8, mask: u32, who: &Sid) -> Vec<u8> {
        let body = [&mask.to_le_bytes()[..], &who.to_binary()].concat();
        let size = u16::try_from(4 + body.len()).unwrap().to_le_bytes();
        [&[kind, flags][..], &size, &body].concat()
    }

    fn descriptor(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let size = u16::try_from(8 + body.len()).unwrap().to_le_bytes();
        let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
        let acl = [&[4, 0][..], &size, &count, &[0, 0], &body].concat();
        let head = [&[1, 0][..], &0x8004_u16.to_le_bytes(), &[0; 12], &20_u32.to_le_bytes()].concat();
        [head, acl].concat()
    }

    const FULL: u32 = 0x000F_01FF;

    fn allows(entries: &[Vec<u8>], sids: &[Sid]) -> bool {
        AccessList::parse(&descriptor(entries)).unwrap().allows(sids)
    }

    #[test]
    fn who_is_named_or_in_a_group_that_is_named_may_and_nobody_else() {
        let list = [entry(0, 0, FULL, &sid(1103)), entry(0, 0, FULL, &sid(1200))];
        assert!(allows(&list, &[sid(1103)]));
        assert!(allows(&list, &[sid(1104), sid(1200)]));
        assert!(!allows(&list, &[sid(1104), sid(513)]));
        assert!(!allows(&[], &[sid(1103)]));
    }

    #[test]
    fn the_first_entry_decides() {
        let (allow, deny) = (entry(0, 0, FULL, &sid(1103)), entry(1, 0, FULL, &sid(1103)));
        assert!(allows(&[allow.clone(), deny.clone()], &[sid(1103)]));
        assert!(!allows(&[deny, allow], &[sid(1103)]));
    }

    #[test]
    fn entries_that_grant_something_else_or_to_other_objects_do_not_count() {
        for other in [entry(0, 0, 0x10, &sid(1103)), entry(0, INHERIT_ONLY, FULL, &sid(1103)), entry(2, 0, FULL, &sid(1103))] {
            assert!(!allows(&[other], &[sid(1103)]));
        }
        assert!(allows(&[entry(0, 0, GENERIC_ALL, &sid(1103))], &[sid(1103)]));
    }

    #[test]
    fn without_a_list_everybody_may_and_with_an_empty_one_nobody() {
        let mut none = descriptor(&[]);
        none[2] = 0;
        let open = AccessList::parse(&none).unwrap();
        assert!(open.allows(&[sid(1)]) && !open.is_empty());
        assert!(AccessList::parse(&descriptor(&[])).unwrap().is_empty());
        assert!(!AccessList::parse(&descriptor(&[entry(0, 0, FULL, &sid(1))])).unwrap().is_empty());
    }

    #[test]
    fn what_is_cut_short_or_no_such_descriptor_is_refused() {
        let whole = descriptor(&[entry(0, 0, FULL, &sid(1103))]);
        for length in 0..whole.len() {
            assert_eq!(AccessList::parse(&whole[..length]), None, "{length}");
        }
        for (at, value) in [(0, 2), (3, 0), (20, 3), (22, 7), (24, 9), (30, 3)] {
            let mut broken = whole.clone();
            broken[at] = value;
            assert_eq!(AccessList::parse(&broken), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..60, value: u8) {
            let _ = AccessList::parse(&bytes);
            let mut list = descriptor(&[entry(0, 0, FULL, &sid(1103)), entry(1, 0, FULL, &sid(1))]);
            list[at] = value;
            let _ = AccessList::parse(&list);
        }
    }
}
