//! The program of `cargo xtask fuzz`: libFuzzer with the target that a variable names.

#![no_main]

use std::sync::LazyLock;

use tcptrace::testing::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TCPTRACE_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    target.expect("TCPTRACE_FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
