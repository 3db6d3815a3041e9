//! What the lists held say of one certificate.
//!
//! Only lists whose signature is by the very key that signed the certificate speak. A full list that is current and about this
//! kind of certificate vouches for it by not naming it. A delta (RFC 5280 section 5.2.4) that is newer than the full list adds its
//! revocations, whether or not it is still current, because a revocation stays one; it lifts a hold only where it is current, made
//! for that full list and about the same distribution point. So with an expired or unfit delta the full list counts alone, as long
//! as it is current itself.
//!
//! A list that names its distribution point is about certificates that name the same one. AD CS writes only those names into the
//! list that the administrator ticked, often `ldap:` alone, while certificates name `http:`; where the two have no scheme in
//! common, a list that the administrator configured as a file is taken at his word, a fetched one is not. Where they do have one
//! and still differ, the CA splits its lists, and the silence of one part says nothing about the other.

use crate::certificate::name_text;
use crate::failure::{Cause, Failure};
use crate::revocation::Link;
use crate::revocation::crl::{Kind, Scope};
use crate::revocation::entries::{HOLD, REMOVE, Revoked};
use crate::revocation::lists::{Held, Lists, Source, shown};

/// How far clocks may differ, in seconds.
pub(super) const CLOCK_SKEW: i64 = 300;

/// What the lists say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Not revoked; until then, seconds since 1970.
    Clear { until: i64 },
    /// Revoked, or on hold.
    Revoked(Failure),
    /// A list pretends to be by this issuer's key, and there is no better one.
    Untrusted(Failure),
    /// No list speaks for it, or only an expired one.
    Nothing(Failure),
}

/// One question and what was found on the way.
struct Question<'a> {
    link: &'a Link<'a>,
    family: &'a [std::sync::Arc<Held>],
    now: i64,
    grace: i64,
    clear_until: Option<i64>,
    /// Named in a list that is not current any more.
    once_revoked: Option<(Revoked, &'a Held)>,
    /// A list that would have spoken, and why it does not.
    silent: Option<Failure>,
}

/// Asks the lists about one certificate.
pub(super) fn judge(lists: &Lists, link: &Link<'_>, now: i64, grace: i64) -> Word {
    let family = lists.of(link.certificate.issuer);
    if !link.issuer.may_sign_crls {
        return Word::Nothing(unknown(link, "its key usage does not allow the CA to sign CRLs"));
    }
    let mut question = Question { link, family, now, grace, clear_until: None, once_revoked: None, silent: None };
    for full in family.iter().filter(|held| held.is_signed_by(link.issuer.public_key) && held.crl.delta_of.is_none()) {
        if let Some((revoked, by)) = question.ask(full) {
            return Word::Revoked(revocation(link, revoked, by));
        }
    }
    question.conclude()
}

impl<'a> Question<'a> {
    /// The word of one full list with its deltas, if it is that the certificate is revoked.
    fn ask(&mut self, full: &'a Held) -> Option<(Revoked, &'a Held)> {
        if let Err(why) = covers(full, self.link) {
            self.silent.get_or_insert_with(|| unknown(self.link, &format!("the CRL {} {why}", full.describe())));
            return None;
        }
        full.mark_used(self.now);
        let mut until = full.end(self.grace);
        let mut revoked = full.crl.entries.find(self.link.certificate.serial).map(|revoked| (revoked, full));
        for delta in self.family.iter().filter(|held| is_delta_to(held, full, self.link.issuer.public_key)) {
            delta.mark_used(self.now);
            match delta.crl.entries.find(self.link.certificate.serial) {
                None => {}
                Some(Revoked { reason: REMOVE, .. }) => {
                    let on_hold = revoked.is_some_and(|(revoked, _)| revoked.reason == HOLD);
                    if on_hold && is_made_for(delta, full) && delta.is_current(self.now, self.grace) {
                        revoked = None;
                        until = until.min(delta.end(self.grace));
                    }
                }
                Some(found) => revoked = Some((found, delta)),
            }
        }
        if full.is_current(self.now, self.grace) {
            if revoked.is_none() {
                self.clear_until = self.clear_until.max(Some(until));
            }
            return revoked;
        }
        self.once_revoked = self.once_revoked.or(revoked);
        self.silent = Some(self.not_current(full));
        None
    }

    fn conclude(self) -> Word {
        if let Some(until) = self.clear_until {
            return Word::Clear { until };
        }
        // Nobody says otherwise since.
        if let Some((revoked, by)) = self.once_revoked {
            return Word::Revoked(revocation(self.link, revoked, by));
        }
        let issuer = &self.link.issuer;
        if let Some(liar) = self.family.iter().find(|held| held.belies(issuer.public_key, issuer.key_identifier)) {
            let detail = format!(
                "the CRL {} names the key of {} and is not signed by it",
                liar.describe(),
                name_text(self.link.certificate.issuer)
            );
            return Word::Untrusted(Failure::new(Cause::RevocationUntrusted, detail));
        }
        let nothing = || {
            let others =
                if self.family.is_empty() { "there is no CRL of that name" } else { "the CRLs of that name are by other keys" };
            unknown(self.link, others)
        };
        Word::Nothing(self.silent.unwrap_or_else(nothing))
    }

    fn not_current(&self, full: &Held) -> Failure {
        let issuer = name_text(self.link.certificate.issuer);
        if full.crl.this_update > self.now {
            return unknown(self.link, &format!("the CRL {} is not valid yet: check the clock", full.describe()));
        }
        let ended = shown(full.crl.next_update);
        Failure::new(Cause::CrlExpired, format!("the CRL {} of {issuer} ended {ended}", full.describe()))
    }
}

/// A delta by the same key, newer than the full list.
fn is_delta_to(held: &Held, full: &Held, public_key: &[u8]) -> bool {
    held.crl.delta_of.is_some() && held.is_signed_by(public_key) && held.crl.number > full.crl.number
}

/// Whether what the delta says on top of its base is also right on top of this list (RFC 5280 section 5.2.4 (c)).
fn is_made_for(delta: &Held, full: &Held) -> bool {
    full.crl.number.is_some() && full.crl.number >= delta.crl.delta_of && full.crl.scope.encoded == delta.crl.scope.encoded
}

/// Whether a list is about a certificate, so that its silence means something.
fn covers(list: &Held, link: &Link<'_>) -> Result<(), &'static str> {
    let Scope { kind, points, .. } = &list.crl.scope;
    match kind {
        Kind::All => {}
        Kind::EndEntities if link.certificate.is_ca() == Ok(false) => {}
        Kind::EndEntities => return Err("is about end entities only"),
        Kind::Authorities if link.certificate.is_ca() == Ok(true) => {}
        Kind::Authorities => return Err("is about CAs only"),
    }
    let Some(points) = points else { return Ok(()) };
    let own = link.certificate.distribution_points().map_err(|_| "cannot be matched: the certificate's are malformed")?;
    let own = || own.iter().filter(|point| !point.partial && !point.indirect).flat_map(|point| point.uris.iter().copied());
    if own().any(|uri| points.iter().any(|point| **point == *uri)) {
        return Ok(());
    }
    let comparable = own().any(|uri| points.iter().any(|point| scheme(point).eq_ignore_ascii_case(scheme(uri))));
    match list.source {
        Source::File(_) if !comparable => Ok(()),
        _ => Err("is about another distribution point"),
    }
}

fn scheme(uri: &str) -> &str {
    uri.split_once(':').map_or(uri, |(scheme, _)| scheme)
}

fn revocation(link: &Link<'_>, revoked: Revoked, by: &Held) -> Failure {
    let detail = format!(
        "{} since {}: CRL {} of {}",
        reason_name(revoked.reason),
        shown(revoked.since),
        by.describe(),
        name_text(link.certificate.issuer)
    );
    Failure::new(Cause::CertificateRevoked, detail)
}

fn unknown(link: &Link<'_>, why: &str) -> Failure {
    Failure::new(Cause::RevocationUnknown, format!("{}: {why}", name_text(link.certificate.issuer)))
}

/// CRLReason (RFC 5280 section 5.3.1).
pub(super) fn reason_name(reason: u8) -> &'static str {
    match reason {
        1 => "keyCompromise",
        2 => "cACompromise",
        3 => "affiliationChanged",
        4 => "superseded",
        5 => "cessationOfOperation",
        HOLD => "certificateHold",
        // Only a delta can remove; in a full list it has no meaning but that the certificate is listed.
        REMOVE => "removeFromCRL",
        9 => "privilegeWithdrawn",
        10 => "aACompromise",
        _ => "unspecified reason",
    }
}
