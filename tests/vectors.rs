//! What real servers answered (tests/vectors) is read as it was when it was recorded.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kcd_bridge::kerberos::capture::{Manifest, Seen, examine, verify};

fn recordings() -> BTreeMap<PathBuf, Manifest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let manifest = verify(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, manifest)
    };
    entries.filter(|path| path.is_dir()).map(read).collect()
}

#[test]
fn every_recording_is_read_as_its_manifest_says() {
    let recordings = recordings();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let captures = recordings.values().flat_map(|manifest| &manifest.captures);
    captures.for_each(|capture| *seen.entry(capture.seen.kind()).or_default() += 1);
    // Not one of the decoders goes without something real.
    assert!(["krb-error", "pac", "answer"].iter().all(|kind| seen.get(kind).is_some_and(|count| *count > 1)), "{seen:?}");
}

/// What says something else when it is altered is not read as if it said the same.
#[test]
fn an_altered_capture_is_refused_or_read_as_something_else_where_its_bytes_are_protected() {
    for (path, manifest) in recordings() {
        for capture in manifest.captures.iter().filter(|capture| !matches!(capture.seen, Seen::KrbError(_))) {
            let mut bytes = std::fs::read(path.join(&capture.file)).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
            assert_ne!(
                examine(capture.seen.kind(), &bytes).ok().as_ref(),
                Some(&capture.seen),
                "{} of {}",
                capture.file,
                path.display()
            );
        }
    }
}

#[test]
fn no_recording_names_anything_but_examples() {
    for (path, manifest) in recordings() {
        let tried = [&manifest.tried.user, &manifest.tried.spn];
        assert!(tried.iter().all(|name| name.to_lowercase().ends_with(".example")), "{}: {tried:?}", path.display());
        for capture in &manifest.captures {
            match &capture.seen {
                Seen::Pac(pac) => {
                    assert!(pac.sid.starts_with("S-1-5-21-100000000"), "{}: {}", path.display(), pac.sid);
                    assert!(pac.account.to_lowercase().starts_with("name"), "{}: {}", path.display(), pac.account);
                }
                Seen::KrbError(error) => assert!(error.server.contains("DOMAIN"), "{}: {}", path.display(), error.server),
                Seen::Answer(_) => {}
            }
        }
    }
}
