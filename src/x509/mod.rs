//! What a certificate says; nothing is believed yet.
