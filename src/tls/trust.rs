//! Which client certificates are admitted: the only maker of [`ClientCertificate`].

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{CertificateError, DistinguishedName};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout_at;
use webpki::{EndEntityCert, VerifiedPath};

use crate::certificate::{Certificate, CertificateFacts, LoadError};
use crate::failure::{Cause, Failure};
use crate::revocation::{OwnedAuthority, Revocation, Verdict};
use crate::tls::admission::Admission;
use crate::tls::authorities::{Authorities, Rules};
use crate::tls::chain::time;
use crate::tls::oracle::Oracle;
use crate::tls::path::{Path, ReadableUsages};
use crate::tls::refusal::{Presented, Refusal, shown};
use crate::tls::{ClientCertificate, ClientTrustConfig, Recheck, VerifiedChain};

/// No public-key infrastructure for devices is deeper.
const MAX_CHAIN_CERTIFICATES: usize = 10;
const MAX_CHAIN_BYTES: usize = 64 << 10;

/// How much longer than it was given revocation may take before it is not waited for.
const SETTLE_MARGIN: Duration = Duration::from_millis(500);

static TRUSTS: AtomicU64 = AtomicU64::new(1);

/// Trust anchors, intermediates and rules as they are now. Immutable: new files make a new one.
pub struct Trust {
    /// Another for every loaded trust of this process.
    id: u64,
    authorities: Authorities,
    rules: Rules,
    names: Vec<DistinguishedName>,
    recheck_interval: Duration,
    revocation: Oracle,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The CAs of a configuration, as revocation is told of them before it sees a certificate.
pub(crate) fn authorities(config: &ClientTrustConfig) -> Result<Vec<OwnedAuthority>, LoadError> {
    Authorities::load(config).map(|authorities| authorities.known())
}

impl Trust {
    /// Reads all files. `nt_auth`: the directory's NTAuth store, where the configuration wants it; without it nobody is admitted.
    pub fn load(
        config: &ClientTrustConfig,
        revocation: Arc<Revocation>,
        nt_auth: Option<&[CertificateDer<'_>]>,
    ) -> Result<Self, LoadError> {
        Self::with_oracle(config, Oracle::Engine(revocation), nt_auth)
    }

    /// [`load`](Self::load) with a revocation engine of its own that nobody refreshes: to try certificates once.
    pub fn load_once(config: &ClientTrustConfig, nt_auth: Option<&[CertificateDer<'_>]>) -> Result<Self, LoadError> {
        Self::load(config, Revocation::load(&config.revocation, authorities(config)?, None, None)?, nt_auth)
    }

    pub(in crate::tls) fn with_oracle(
        config: &ClientTrustConfig,
        revocation: Oracle,
        nt_auth: Option<&[CertificateDer<'_>]>,
    ) -> Result<Self, LoadError> {
        let authorities = Authorities::load(config)?;
        Ok(Self {
            id: TRUSTS.fetch_add(1, Ordering::Relaxed),
            rules: Rules::load(config, nt_auth)?,
            names: authorities.names(config)?,
            authorities,
            recheck_interval: config.recheck_interval,
            revocation,
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        })
    }

    /// Both stages: verifies a chain, leaf first, as of `now`, and finds out whether it is revoked.
    pub async fn admit(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        deadline: Instant,
    ) -> Result<ClientCertificate, Failure> {
        self.settle(self.verify(chain, now)?, now, deadline).await
    }

    /// The first stage, without any wait: a path to a trust anchor, within validity, by every rule; and what memory knows about
    /// revocation.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedChain, Failure> {
        self.examine(chain, now).map_err(|refusal| refusal.failure)
    }

    /// The second stage: revocation, where memory did not know. A chain that another trust verified is verified again.
    pub async fn settle(&self, chain: VerifiedChain, now: UnixTime, deadline: Instant) -> Result<ClientCertificate, Failure> {
        let chain = if chain.trust == self.id { chain } else { self.verify(&chain.as_presented(), now)? };
        let admission = self.admission(&chain, now, deadline).await?;
        say_unvouched(&chain.facts, &admission);
        Ok(ClientCertificate::admitted(chain, admission))
    }

    /// Whether an admitted certificate would be admitted now, by this trust. To be asked before every request, so that neither a
    /// revoked nor an expired certificate lives on in a kept connection.
    pub fn still_admits(&self, certificate: &ClientCertificate, now: UnixTime) -> Recheck {
        if certificate.admissions().stands(self.id, self.revocation.generation(), now) {
            return Recheck::Stands;
        }
        if certificate.valid_at(now) {
            return Recheck::Ask;
        }
        let period = |time: UnixTime| shown(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let detail = format!("valid from {} to {}", period(certificate.not_before()), period(certificate.not_after()));
        Recheck::Refused(Failure::new(Cause::CertificateExpired, detail))
    }

    /// Admits a certificate again by this trust, both stages. Of several who ask at once for the same certificate one does, and the
    /// others get its result.
    pub async fn readmit(&self, certificate: &ClientCertificate, now: UnixTime, deadline: Instant) -> Result<(), Failure> {
        let asked = Instant::now();
        let Ok(_turn) = timeout_at(deadline.into(), certificate.admissions().turn.lock()).await else {
            return Err(late());
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(asked.elapsed()));
        match self.still_admits(certificate, now) {
            Recheck::Stands => return Ok(()),
            Recheck::Refused(failure) => return Err(failure),
            Recheck::Ask => {}
        }
        if let Some(failure) = certificate.admissions().refused_since(self.id, asked) {
            return Err(failure);
        }
        let admitted = self.admit_again(certificate, now, deadline).await;
        match &admitted {
            Ok(admission) => {
                if certificate.unvouched().is_none() {
                    say_unvouched(certificate.facts(), admission);
                }
                certificate.admissions().renew(admission.clone());
            }
            Err(failure) => certificate.admissions().refuse(self.id, failure.clone()),
        }
        admitted.map(drop)
    }

    async fn admit_again(&self, certificate: &ClientCertificate, now: UnixTime, deadline: Instant) -> Result<Admission, Failure> {
        let chain = self.verify(&certificate.chain().as_presented(), now)?;
        if chain.issuer_key != certificate.issuer_key() {
            // Its mapping was chosen by the key of its issuer.
            return Err(Failure::new(Cause::UnknownIssuer, "it is now verified by another key than before"));
        }
        self.admission(&chain, now, deadline).await
    }

    /// Settles what is open, and says for how long the result stands.
    async fn admission(&self, chain: &VerifiedChain, now: UnixTime, deadline: Instant) -> Result<Admission, Failure> {
        // What changes from here on is asked about again.
        let (settled, generation);
        let verdict = match &chain.verdict {
            Verdict::Open(_) => {
                generation = self.revocation.generation();
                let links =
                    Path::read(&chain.path).and_then(|path| path.links(&self.rules)).map_err(|refusal| refusal.failure)?;
                let answer = timeout_at((deadline + SETTLE_MARGIN).into(), self.revocation.settle(&links, now, deadline)).await;
                settled = answer.map_err(|_| late())?;
                &settled
            }
            known => {
                generation = chain.generation;
                known
            }
        };
        let (until, unvouched) = match verdict {
            Verdict::Clear { until, open } => (*until, open.clone()),
            Verdict::Refused(failure) | Verdict::Open(failure) => return Err(failure.clone()),
        };
        let ends = [
            now.as_secs().saturating_add(self.recheck_interval.as_secs()),
            until.as_secs(),
            chain.valid_until.as_secs().saturating_add(1),
        ];
        let until = ends.into_iter().min().unwrap_or(0);
        Ok(Admission { trust: self.id, generation, from: now.as_secs(), until, unvouched })
    }

    /// Names of the CAs whose certificates may be admitted, for the certificate request.
    pub(in crate::tls) fn names(&self) -> &[DistinguishedName] {
        &self.names
    }

    /// Signature algorithms of certificates and handshakes.
    pub(in crate::tls) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// [`verify`](Self::verify), with the alert for the peer.
    pub(in crate::tls) fn examine(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedChain, Refusal> {
        let (leaf_der, presented) = chain
            .split_first()
            .ok_or_else(|| Refusal { failure: Cause::NoCertificate.into(), alert: CertificateError::BadEncoding })?;
        if chain.len() > MAX_CHAIN_CERTIFICATES || chain.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
            return Err(Refusal::malformed(format!(
                "the chain has more than {MAX_CHAIN_CERTIFICATES} certificates or {MAX_CHAIN_BYTES} bytes"
            )));
        }
        let leaf = Certificate::read(leaf_der).map_err(|error| Refusal::malformed(error.to_string()))?;
        let intermediates = self.reachable(&leaf, presented)?;
        let explain = |error| {
            let anchors = &self.authorities.anchor_certificates;
            Presented::new(&leaf, leaf_der, intermediates.iter().chain(anchors)).refusal(error)
        };
        let end_entity = EndEntityCert::try_from(leaf_der).map_err(explain)?;

        let (found, refused) = (RefCell::new(None), RefCell::new(None));
        let judge = |candidate: &VerifiedPath<'_>| match self.judge(&leaf, (leaf_der, presented), candidate, now) {
            Ok(verified) => {
                found.replace(Some(verified));
                Ok(())
            }
            Err(refusal) => {
                refused.borrow_mut().get_or_insert(refusal);
                // Another path is tried; this error is never shown.
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let (all, anchors) = (self.algorithms.all, &self.authorities.anchors);
        let built = end_entity.verify_for_usage(all, anchors, &intermediates, now, ReadableUsages, None, Some(&judge));
        match (built.map(drop), found.into_inner(), refused.into_inner()) {
            (Ok(()), Some(verified), _) => Ok(verified),
            (_, _, Some(refusal)) => Err(refusal),
            (Err(error), _, None) => Err(explain(error)),
            (Ok(()), None, None) => Err(Refusal::malformed("no path was judged")),
        }
    }

    /// Our rules over a path that the builder has verified.
    fn judge(
        &self,
        leaf: &Certificate<'_>,
        (leaf_der, presented): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        candidate: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<VerifiedChain, Refusal> {
        let anchored = self.authorities.anchors.iter().zip(&self.authorities.anchor_certificates);
        let anchor = anchored.into_iter().find(|(anchor, _)| *anchor == candidate.anchor()).map(|(_, der)| der);
        let anchor = anchor.ok_or_else(|| Refusal::malformed("a path to no anchor"))?;
        let mut ders = vec![leaf_der.clone().into_owned()];
        ders.extend(candidate.intermediate_certificates().map(|certificate| certificate.der().into_owned()));
        ders.push(anchor.clone());

        let path = Path::read(&ders)?;
        path.check(&self.rules)?;
        path.check_anchor_time(now)?;
        let generation = self.revocation.generation();
        let verdict = self.revocation.status(&path.links(&self.rules)?, now);
        if let Verdict::Refused(failure) = verdict {
            return Err(Refusal::revocation(failure));
        }
        let issuer_key = path.issuer_key().ok_or_else(|| Refusal::malformed("a path without an issuer"))?;
        let valid_until = time(path.valid_until());
        let (not_before, not_after) = VerifiedChain::validity(leaf);
        Ok(VerifiedChain {
            facts: CertificateFacts::of(leaf_der),
            path: ders,
            presented: presented.iter().map(|der| der.clone().into_owned()).collect(),
            issuer_key,
            not_before,
            not_after,
            valid_until,
            trust: self.id,
            verdict,
            generation,
        })
    }

    /// The CA certificates between the leaf and any anchor, by their names: the configured ones first, so that a device cannot put a
    /// worse one before them. Self-issued ones of the device are left out: with them it could make the builder try every order.
    fn reachable<'a>(
        &'a self,
        leaf: &Certificate<'_>,
        presented: &'a [CertificateDer<'_>],
    ) -> Result<Vec<CertificateDer<'a>>, Refusal> {
        let read = |der: &'a CertificateDer<'_>| Certificate::read(der).map(|certificate| (certificate, der));
        let presented: Vec<_> = presented
            .iter()
            .map(|der| read(der).map_err(|error| Refusal::malformed(format!("a presented certificate: {error}"))))
            .collect::<Result<_, _>>()?;
        let mut names = vec![leaf.issuer];
        let mut seen = HashSet::from([leaf.issuer]);
        let (mut configured, mut sent) = (Vec::new(), Vec::new());
        while let Some(name) = names.pop() {
            let own = self.authorities.intermediates.get(name).into_iter().flatten().filter_map(|der| read(der).ok());
            let theirs = presented.iter().filter(|(certificate, _)| certificate.subject == name && certificate.issuer != name);
            let all = own.map(|found| (found, true)).chain(theirs.cloned().map(|found| (found, false)));
            for ((certificate, der), is_own) in all {
                if is_own { &mut configured } else { &mut sent }.push(CertificateDer::from(der.as_ref()));
                if seen.insert(certificate.issuer) {
                    names.push(certificate.issuer);
                }
            }
        }
        configured.append(&mut sent);
        Ok(configured)
    }
}

/// Policy `prefer` lets nobody in silently.
fn say_unvouched(facts: &CertificateFacts, admission: &Admission) {
    if let Some(failure) = &admission.unvouched {
        let CertificateFacts { fingerprint, issuer, serial, .. } = facts;
        let (reason, detail) = (failure.cause.code(), &failure.detail);
        tracing::warn!(certificate = %fingerprint, issuer, serial, reason, detail, "let in although nothing says that it is not revoked");
    }
}

fn late() -> Failure {
    Failure::new(Cause::RevocationUnknown, "no answer in time")
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("id", &self.id)
            .field("anchors", &self.authorities.anchors.len())
            .field("intermediates", &self.authorities.intermediates.len())
            .finish_non_exhaustive()
    }
}
