//! A device's side of a connection.

use super::framing::{Chunks, Framing, check_head, head_length};

/// One head and what follows it; a head that is found in two steps ends where it ends in one.
pub(crate) fn request(bytes: &[u8]) {
    let Ok(Some(length)) = head_length(bytes, 0) else { return };
    let half = length / 2;
    if let Ok(None) = head_length(bytes.get(..half).unwrap_or_default(), 0) {
        // From before the last line end that might have been seen.
        assert_eq!(head_length(bytes, half.saturating_sub(1)).ok(), Some(Some(length)));
    }
    let (head, body) = bytes.split_at(length);
    if let Ok(Framing::Chunked) = check_head(head) {
        chunked(body);
    }
}

/// A chunked body ends at the same byte however it arrives.
pub(crate) fn chunked(bytes: &[u8]) {
    let mut whole = Chunks::default();
    let at_once = whole.follow(bytes);
    let mut parts = Chunks::default();
    let mut one_by_one = Ok(0);
    for byte in bytes.chunks(1) {
        match (one_by_one, parts.follow(byte)) {
            (Ok(before), Ok(more)) => one_by_one = Ok(before + more),
            (_, Err(refused)) => one_by_one = Err(refused),
            (Err(_), Ok(_)) => {}
        }
        if one_by_one.is_err() {
            break;
        }
    }
    assert_eq!(at_once, one_by_one);
    assert!(at_once.is_err() || whole.is_done() == parts.is_done());
}
