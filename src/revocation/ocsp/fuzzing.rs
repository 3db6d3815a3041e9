//! What a responder answers.

use super::response::Basic;

pub(crate) fn response(bytes: &[u8]) {
    let _ = Basic::read(bytes);
}
