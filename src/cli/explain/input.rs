//! Certificates in files and directories, one at a time.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::certificate::Certificate;
use crate::der::tag;
use crate::files::read_regular;

/// A bundle of several thousand certificates is smaller.
const MAX_FILE: u64 = 16 << 20;
/// Directories below the one that is named.
const MAX_DEPTH: usize = 16;
/// Certificates of a chain above the leaf.
const MAX_ISSUERS: usize = 8;
/// What files with certificates are called: such a file without any is not passed over.
const EXTENSIONS: [&str; 5] = ["pem", "crt", "cer", "der", "cert"];

/// A certificate as a device would present it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presented {
    /// File, and its place there where the file holds several.
    pub(super) source: String,
    /// Leaf first, then what the same file holds of its issuers. The leaf may be anything.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// What came next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Certificate(Presented),
    /// A file of a directory that has nothing to do with certificates.
    Skipped,
    /// A file or directory that cannot be read, or a named file without a certificate.
    Trouble {
        source: String,
        problem: String,
    },
}

/// Everything that is named, in order; directories in the order of their entries' names, their files and what is below them.
#[derive(Debug)]
pub(super) struct Inputs {
    /// what is still to be visited, the next one last
    open: Vec<Visit>,
    /// of the file that is read
    ready: VecDeque<Found>,
}

#[derive(Debug)]
struct Visit {
    path: PathBuf,
    /// how far below what was named; 0: named itself
    depth: usize,
}

impl Inputs {
    pub(super) fn new(named: &[PathBuf]) -> Self {
        let open = named.iter().rev().map(|path| Visit { path: path.clone(), depth: 0 }).collect();
        Self { open, ready: VecDeque::new() }
    }

    fn visit(&mut self, visit: &Visit) {
        let source = visit.path.display().to_string();
        match fs::metadata(&visit.path) {
            Ok(metadata) if metadata.is_dir() => self.directory(visit, source),
            Ok(metadata) if metadata.is_file() || visit.depth == 0 => self.ready = file(visit, &source),
            Ok(_) => self.ready.push_back(Found::Skipped),
            Err(error) => self.ready.push_back(trouble(source, &error)),
        }
    }

    fn directory(&mut self, visit: &Visit, source: String) {
        // A link back up would never end.
        let is_link = || fs::symlink_metadata(&visit.path).is_ok_and(|metadata| metadata.is_symlink());
        if visit.depth > 0 && is_link() {
            self.ready.push_back(Found::Skipped);
            return;
        }
        if visit.depth > MAX_DEPTH {
            self.ready.push_back(trouble(source, &format!("more than {MAX_DEPTH} directories deep")));
            return;
        }
        let entries = fs::read_dir(&visit.path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut entries: Vec<PathBuf> = match entries {
            Ok(entries) => entries,
            Err(error) => return self.ready.push_back(trouble(source, &error)),
        };
        entries.sort_unstable_by(|one, other| other.cmp(one));
        self.open.extend(entries.into_iter().map(|path| Visit { path, depth: visit.depth + 1 }));
    }
}

impl Iterator for Inputs {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            let visit = self.open.pop()?;
            self.visit(&visit);
        }
    }
}

fn trouble(source: String, problem: &dyn std::fmt::Display) -> Found {
    Found::Trouble { source, problem: problem.to_string() }
}

/// What a file holds.
fn file(visit: &Visit, source: &str) -> VecDeque<Found> {
    let bytes = match read_regular(&visit.path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) => return [trouble(source.to_owned(), &error)].into(),
    };
    let named_so = has_extension(&visit.path);
    let certificates = match certificates(&bytes) {
        Ok(certificates) => certificates,
        Err(error) => return [trouble(source.to_owned(), &format!("is not valid PEM: {error}"))].into(),
    };
    if !certificates.is_empty() {
        return presented(source, certificates);
    }
    // Keys and CRLs are PEM too.
    let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
    let what = if visit.depth == 0 {
        trouble(source.to_owned(), &"holds no certificate")
    } else if named_so && !is_pem {
        Found::Certificate(Presented { source: source.to_owned(), chain: vec![bytes.into()] })
    } else {
        Found::Skipped
    };
    [what].into()
}

/// DER, or every certificate of a PEM file.
fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    if let [tag::SEQUENCE, 0x81..=0x84, ..] = bytes {
        return Ok(vec![bytes.to_vec().into()]);
    }
    CertificateDer::pem_slice_iter(bytes).collect()
}

fn has_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Every certificate that is no CA's, each with its issuers from the same file. Where all are CAs', the first one.
fn presented(source: &str, certificates: Vec<CertificateDer<'static>>) -> VecDeque<Found> {
    let (mut authorities, mut leaves) = (Vec::new(), Vec::new());
    for (index, der) in certificates.into_iter().enumerate() {
        match Authority::read(&der) {
            Some(authority) => authorities.push((index, authority)),
            None => leaves.push((index, der)),
        }
    }
    if leaves.is_empty() {
        leaves.extend(authorities.first().map(|(index, authority)| (*index, authority.der.clone())));
    }
    let several = leaves.len() > 1;
    let presented = |(index, leaf): (usize, CertificateDer<'static>)| {
        let source = if several { format!("{source} #{}", index + 1) } else { source.to_owned() };
        Found::Certificate(Presented { source, chain: chain(leaf, &authorities) })
    };
    leaves.into_iter().map(presented).collect()
}

/// A CA's certificate with its names.
struct Authority {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

impl Authority {
    /// None: not a CA's.
    fn read(der: &CertificateDer<'static>) -> Option<Self> {
        let read = Certificate::read(der).ok().filter(|read| read.is_ca() == Ok(true))?;
        Some(Self { der: der.clone(), subject: read.subject.to_vec(), issuer: read.issuer.to_vec() })
    }
}

/// The leaf and whoever could have issued it, by name.
fn chain(leaf: CertificateDer<'static>, authorities: &[(usize, Authority)]) -> Vec<CertificateDer<'static>> {
    let mut wanted = Certificate::read(&leaf).map(|read| read.issuer.to_vec()).unwrap_or_default();
    let mut chain = vec![leaf];
    while chain.len() <= MAX_ISSUERS {
        let is_next = |authority: &&Authority| authority.subject == wanted && !chain.contains(&authority.der);
        let Some(next) = authorities.iter().map(|(_, authority)| authority).find(is_next) else { break };
        wanted.clone_from(&next.issuer);
        chain.push(next.der.clone());
    }
    chain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::test_certificate;

    fn sources(named: &[PathBuf]) -> Vec<String> {
        let shown = |found| match found {
            Found::Certificate(presented) => presented.source,
            Found::Skipped => "skipped".to_owned(),
            Found::Trouble { source, problem } => format!("{source}: {problem}"),
        };
        Inputs::new(named).map(shown).collect()
    }

    #[test]
    fn a_directory_is_walked_in_the_order_of_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        let der = test_certificate(&[(&[0x2A, 3], &[0; 64])]);
        for name in ["z.cer", "a", "b/c/1.der", "b/2.crt"] {
            fs::write(at(name), &der).unwrap();
        }
        fs::write(at("notes.txt"), "-----nothing").unwrap();
        fs::write(at("broken.pem"), "nothing").unwrap();
        fs::write(at("key.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        std::os::unix::fs::symlink(directory.path(), at("up")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling.pem")).unwrap();
        let shown: Vec<_> =
            sources(&[directory.path().to_owned()]).iter().map(|text| text.replace(&at("").display().to_string(), "")).collect();
        assert_eq!(
            shown,
            [
                "a",
                "b/2.crt",
                "b/c/1.der",
                "broken.pem",
                "dangling.pem: No such file or directory (os error 2)",
                "skipped",
                "skipped",
                "skipped",
                "z.cer"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_file_holds_certificates_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), pem in any::<bool>()) {
            let head = if pem { &b"-----BEGIN CERTIFICATE-----\n"[..] } else { &[tag::SEQUENCE, 0x81] };
            if let Ok(certificates) = certificates(&[head, &bytes].concat()) {
                let count = certificates.len();
                prop_assert_eq!(presented("file", certificates).len(), count);
            }
        }
    }

    #[test]
    fn a_named_file_without_a_certificate_is_trouble() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = sources(&[file.path().to_owned(), PathBuf::from("/nonexistent")]);
        assert!(found[0].ends_with("holds no certificate") && found[1].contains("No such file"), "{found:?}");
    }
}
