//! The handshake's question to [`Trust`].
//!
//! A verifier can only answer with an error that picks the alert, and the TLS library hands no certificate out of a failed
//! handshake. What was found out, in either case, is left in the [`Attempt`] of the task that drives the handshake: verifiers are
//! called synchronously from within its poll.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::CertificateFacts;
use crate::failure::Failure;
use crate::tls::{Trust, VerifiedChain};

tokio::task_local! {
    static ATTEMPT: RefCell<Attempt>;
}

/// What one handshake left behind.
#[derive(Debug, Default)]
pub(in crate::tls) struct Attempt {
    /// The verifier's verdict; none where it was not asked: no certificate, or a resumed session.
    pub(in crate::tls) verdict: Option<Result<VerifiedChain, (Failure, CertificateFacts)>>,
    /// Keys of the resumption sessions it used or made.
    pub(in crate::tls) sessions: Vec<Vec<u8>>,
}

impl Attempt {
    /// Drives a handshake and returns what it left behind.
    pub(in crate::tls) async fn observe<F: Future>(handshake: F) -> (F::Output, Self) {
        let observed = async {
            let output = handshake.await;
            (output, ATTEMPT.with(RefCell::take))
        };
        ATTEMPT.scope(RefCell::default(), observed).await
    }

    /// Notes something about the handshake that this task drives, if it drives one.
    pub(in crate::tls) fn note(change: impl FnOnce(&mut Self)) {
        let _ = ATTEMPT.try_with(|attempt| change(&mut attempt.borrow_mut()));
    }
}

/// Asks for a client certificate, and ends the handshake of one that the first stage of [`Trust`] refuses.
#[derive(Debug)]
pub(in crate::tls) struct Verifier {
    trust: Arc<Trust>,
}

impl Verifier {
    pub(in crate::tls) fn new(trust: Arc<Trust>) -> Self {
        Self { trust }
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.names()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let (verdict, answer) = match self.trust.examine(&chain, now) {
            // Whether it is let in is decided after the handshake, by the second stage.
            Ok(chain) => (Ok(chain), Ok(ClientCertVerified::assertion())),
            Err(refusal) => {
                (Err((refusal.failure, CertificateFacts::of(end_entity))), Err(Error::InvalidCertificate(refusal.alert)))
            }
        };
        Attempt::note(|attempt| attempt.verdict = Some(verdict));
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}
