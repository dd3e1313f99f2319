//! The flags that the object is built with, the same on every machine.
//!
//! What differs between machines stands in them as a `{placeholder}`; the manifest records them as
//! they are written here.

/// The arguments for cargo. `core` is built from source: no distribution ships it for BPF.
pub(crate) const CARGO: [&str; 8] = [
    "build",
    "--release",
    "--locked",
    "--package=tcptrace-ebpf",
    "--bin=tcptrace",
    "--target=bpfel-unknown-none",
    "-Z",
    "build-std=core",
];

/// The flags for rustc. Of several remappings that match a path, the last one wins.
///
/// The source lines that BTF carries for the verifier's log are embedded by rustc: the linker would
/// look for the files on disk, where a remapped path leads nowhere, or worse, somewhere. What the
/// kernel's helpers look like does not depend on the architecture, so the directory named after it
/// is hidden.
pub(crate) const RUSTC: [&str; 10] = [
    "--cfg=bpf_target_arch=\"{arch}\"",
    "-Cdebuginfo=2",
    "-Cdwarf-version=5",
    "-Zembed-source=yes",
    "-Clink-arg=--btf",
    "--remap-path-prefix={workspace}=.",
    "--remap-path-prefix={cargo-home}=cargo",
    "--remap-path-prefix={registry}=crates",
    "--remap-path-prefix={registry}/{bindings}/src/{arch}=crates/{bindings}/src/arch",
    "--remap-path-prefix={rust-src}=rust",
];

/// All of them in one list, as the manifest records them.
pub(crate) fn recorded() -> Vec<String> {
    CARGO
        .iter()
        .chain(&RUSTC)
        .map(ToString::to_string)
        .collect()
}
