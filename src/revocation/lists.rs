//! The lists held: by issuer, then by the key that signed them. Of a series - same key, same scope, full lists or deltas - the newest
//! stays, and nothing older ever takes its place. Lists by several keys of one name (a renewed CA: `CA.crl`, `CA(1).crl`) live side by
//! side; which of them speaks for a certificate is a matter of the key that signed it.
//!
//! What is held lives as long as the process, through changes of the configuration too: after a restart, the files and distribution
//! points decide anew.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};

use crate::certificate::{SignatureError, Signed};
use crate::der;
use crate::revocation::OwnedAuthority;
use crate::revocation::crl::Crl;

/// Lists held at once, and what they may take together.
const MAX_LISTS: usize = 1024;
const MAX_BYTES: usize = 1 << 30;

/// Keys of one name that are tried on a list which does not say whose it is.
const MAX_KEYS_TRIED: usize = 16;

/// Where a list came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    File(PathBuf),
    Fetched(Arc<str>),
}

/// Who signed a list.
#[derive(Clone)]
pub(super) enum Signer {
    /// The key with this SubjectPublicKeyInfo.
    Known(Box<[u8]>),
    /// None of `refused`. `der` is there for the keys to come; empty where there is no use in trying others.
    Unknown { der: Arc<[u8]>, refused: Vec<Box<[u8]>> },
}

/// A list, where it came from and what is known of its signature.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) crl: Arc<Crl>,
    pub(super) source: Source,
    /// Seconds since 1970.
    pub(super) taken: i64,
    /// When it last spoke for a certificate; seconds since 1970.
    pub(super) used: Arc<AtomicI64>,
    pub(super) signer: Signer,
}

/// What became of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Held from now on.
    New,
    /// Held already.
    Same,
    /// A newer one of its series is held: this would be a step back.
    Older { held: String },
    /// There is no room.
    TooMany,
}

/// An immutable state of what is held; another one takes its place.
#[derive(Clone, Default)]
pub(super) struct Lists {
    by_issuer: HashMap<Box<[u8]>, Vec<Arc<Held>>>,
}

impl Lists {
    /// Every list that names this issuer.
    pub(super) fn of(&self, issuer: &[u8]) -> &[Arc<Held>] {
        self.by_issuer.get(issuer).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.by_issuer.values().flatten()
    }

    /// Those that somebody's key signed.
    pub(super) fn verified(&self) -> Self {
        let mut verified = self.clone();
        verified.retain(|held| held.signer.is_known());
        verified
    }

    /// Takes a list in, or says why not.
    pub(super) fn take(&mut self, new: Arc<Held>) -> Taken {
        let (count, bytes) = self.iter().fold((0, 0), |(count, bytes), held| (count + 1, bytes + held.bytes()));
        let family = self.by_issuer.entry(new.crl.issuer.clone()).or_default();
        if new.signer.is_known() {
            family.retain(|held| held.signer.is_known() || held.crl.digest != new.crl.digest);
        }
        let rival = family.iter_mut().find(|held| held.is_rival_of(&new));
        let order = rival.as_ref().map(|held| new.crl.order(&held.crl));
        match (rival, order) {
            (Some(held), Some(Ordering::Greater)) => *held = new,
            (Some(held), Some(Ordering::Equal)) => return held.meet(&new),
            (Some(held), _) => return Taken::Older { held: held.describe() },
            (None, _) if count >= MAX_LISTS || bytes + new.bytes() > MAX_BYTES => return Taken::TooMany,
            (None, _) => family.push(new),
        }
        Taken::New
    }

    /// Drops what this source gave and nobody's key signed: it gives something else now.
    pub(super) fn forget_unverified(&mut self, source: &Source) -> bool {
        self.retain(|held| held.signer.is_known() || held.source != *source)
    }

    /// Notes keys that did not sign the list with this digest.
    pub(super) fn note_refusals(&mut self, crl: &Crl, keys: &[Box<[u8]>]) {
        let family = self.by_issuer.get_mut(&crl.issuer).into_iter().flatten();
        for held in family.filter(|held| held.crl.digest == crl.digest) {
            if let Signer::Unknown { refused, .. } = &mut Arc::make_mut(held).signer {
                let new = keys.iter().filter(|key| !refused.contains(key)).cloned().collect::<Vec<_>>();
                refused.extend(new);
                refused.truncate(MAX_KEYS_TRIED);
            }
        }
    }

    /// Keeps what this says; whether anything went.
    pub(super) fn retain(&mut self, keep: impl Fn(&Held) -> bool) -> bool {
        let before = self.iter().count();
        for family in self.by_issuer.values_mut() {
            family.retain(|held| keep(held));
        }
        self.by_issuer.retain(|_, family| !family.is_empty());
        self.iter().count() != before
    }
}

impl Held {
    /// Whether this key signed it.
    pub(super) fn is_signed_by(&self, public_key: &[u8]) -> bool {
        matches!(&self.signer, Signer::Known(key) if **key == *public_key)
    }

    /// Whether its signature may turn out to be by this key.
    pub(super) fn may_be_signed_by(&self, public_key: &[u8]) -> bool {
        let Signer::Unknown { der, refused } = &self.signer else { return false };
        !der.is_empty() && refused.len() < MAX_KEYS_TRIED && !refused.iter().any(|key| **key == *public_key)
    }

    /// Whether it claims to be by the key with this identifier and is not.
    pub(super) fn belies(&self, public_key: &[u8], key_identifier: Option<&[u8]>) -> bool {
        let Signer::Unknown { refused, .. } = &self.signer else { return false };
        self.crl.key.is_some() && self.crl.key.as_deref() == key_identifier && refused.iter().any(|key| **key == *public_key)
    }

    /// Whether it may be believed at `now`, its nextUpdate extended by `grace` seconds.
    pub(super) fn is_current(&self, now: i64, grace: i64) -> bool {
        self.crl.this_update <= now.saturating_add(super::judge::CLOCK_SKEW) && now <= self.end(grace)
    }

    /// The last second at which it is believed.
    pub(super) fn end(&self, grace: i64) -> i64 {
        self.crl.next_update.saturating_add(grace)
    }

    pub(super) fn mark_used(&self, now: i64) {
        if self.used.load(Atomic::Relaxed) < now {
            self.used.store(now, Atomic::Relaxed);
        }
    }

    /// For logs: number, time and source.
    pub(super) fn describe(&self) -> String {
        let number = self.crl.number.map_or_else(|| "without number".to_owned(), |number| format!("number {number}"));
        format!("{number} of {} from {}", shown(self.crl.this_update), self.source)
    }

    pub(super) fn bytes(&self) -> usize {
        let der = match &self.signer {
            Signer::Known(_) => 0,
            Signer::Unknown { der, .. } => der.len(),
        };
        self.crl.bytes() + der
    }

    /// Of one series by one key; or, while the key is not known, the same list again.
    fn is_rival_of(&self, other: &Self) -> bool {
        match (&self.signer, &other.signer) {
            (Signer::Known(one), Signer::Known(two)) => one == two && self.crl.is_of_series(&other.crl),
            (_, Signer::Unknown { .. }) => self.crl.digest == other.crl.digest,
            (Signer::Unknown { .. }, Signer::Known(_)) => false,
        }
    }

    /// The same list from another place: one that the administrator configured counts for more, see [`super::judge`].
    fn meet(self: &mut Arc<Self>, other: &Self) -> Taken {
        let configured = matches!((&self.source, &other.source), (Source::Fetched(_), Source::File(_)));
        if configured && self.crl.digest == other.crl.digest {
            *self = Arc::new(Self { source: other.source.clone(), ..(**self).clone() });
        }
        Taken::Same
    }
}

impl Crl {
    /// Newer is greater: by number, then by time (RFC 5280 section 5.2.3).
    fn order(&self, other: &Self) -> Ordering {
        let by_time = self.this_update.cmp(&other.this_update);
        match (self.number, other.number) {
            (Some(one), Some(two)) => one.cmp(&two).then(by_time),
            _ => by_time,
        }
    }

    fn is_of_series(&self, other: &Self) -> bool {
        self.delta_of.is_some() == other.delta_of.is_some() && self.scope.encoded == other.scope.encoded
    }
}

impl Signer {
    /// Tries the keys of the CAs with the issuer's name that may sign CRLs: first that which the list names, then the others, as a
    /// cross-certified CA may know its key by another identifier.
    pub(super) fn find(crl: &Crl, der: &Arc<[u8]>, authorities: &[OwnedAuthority]) -> Self {
        let fits = |authority: &&OwnedAuthority| authority.subject == crl.issuer && authority.may_sign_crls;
        let named = |authority: &OwnedAuthority| crl.key.is_some() && authority.key_identifier == crl.key;
        let (first, then): (Vec<_>, Vec<_>) = authorities.iter().filter(fits).partition(|authority| named(authority));
        let mut refused: Vec<Box<[u8]>> = Vec::new();
        for authority in first.into_iter().chain(then).take(MAX_KEYS_TRIED) {
            if refused.contains(&authority.public_key) {
                continue;
            }
            match Signed::read(der).map_err(SignatureError::from).and_then(|signed| signed.verify(&authority.public_key)) {
                Ok(()) => return Self::Known(authority.public_key.clone()),
                Err(_) => refused.push(authority.public_key.clone()),
            }
        }
        Self::Unknown { der: Arc::clone(der), refused }
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Fetched(uri) => f.write_str(uri),
        }
    }
}

/// A time for people: `2026-11-23 02:24:57Z`.
pub(super) fn shown(seconds: i64) -> String {
    let digits = der::format_kerberos_time(seconds);
    let text = String::from_utf8_lossy(&digits);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    format!("{}-{}-{} {}:{}:{}Z", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12), part(12..14))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::testkit::Ca;

    #[test]
    fn no_more_lists_are_held_than_allowed_but_each_may_be_renewed() {
        let ca = Ca::new("Device CA");
        let mut lists = Lists::default();
        let mut take = |series: usize, number| {
            let scope = crate::revocation::testkit::full_name(&[&format!("http://a/{series}")]);
            let crl = Crl::read(&ca.list(number).scope(&[&scope]).sign()).unwrap();
            let signer = Signer::Known(ca.authority().public_key);
            let source = Source::Fetched("http://a/".into());
            lists.take(Arc::new(Held { crl: Arc::new(crl), source, taken: 0, used: Arc::default(), signer }))
        };
        for series in 0..MAX_LISTS {
            assert_eq!(take(series, 1), Taken::New);
        }
        assert_eq!(take(MAX_LISTS, 1), Taken::TooMany);
        assert_eq!(take(7, 2), Taken::New);
        assert_eq!(take(7, 2), Taken::Same);
        assert!(matches!(take(7, 1), Taken::Older { .. }));
    }
}
