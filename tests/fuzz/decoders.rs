//! Every decoder of bytes that a peer chooses, under libFuzzer: `KCD_FUZZ=TARGET decoders CORPUS...`, or `decoders --targets`.
//! One program for all of them, so that it is linked once; integration/fuzz.sh runs it.

#![no_main]

use std::sync::OnceLock;

use kcd_bridge::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    if std::env::args().any(|argument| argument == "--targets") {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(0);
    }
    let name = std::env::var("KCD_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.map(|(_, target)| *target).expect("KCD_FUZZ names a target; --targets lists them")
}

fuzz_target!(
    init: {
        TARGET.get_or_init(chosen);
    },
    |data: &[u8]| {
        TARGET.get_or_init(chosen)(data);
    }
);
