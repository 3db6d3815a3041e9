//! A list on its own, for measurements: nothing is verified, nothing believed.

use crate::revocation::crl::Crl;

/// A list as the engine keeps it.
#[derive(Debug)]
pub struct List(Crl);

impl List {
    /// Reads a CertificateList in DER.
    pub fn read(der: &[u8]) -> Option<Self> {
        Crl::read(der).ok().map(Self)
    }

    /// Whether it names a certificate: contents octets of its serial number.
    pub fn names(&self, serial: &[u8]) -> bool {
        self.0.entries.find(serial).is_some()
    }

    /// How many certificates it names.
    pub fn entries(&self) -> usize {
        self.0.entries.len()
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
