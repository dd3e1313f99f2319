//! How the kernel side is set up.

use super::hooks::Exclusion;

/// The oldest kernel that has what the programs need.
pub const OLDEST_KERNEL: (u8, u8) = (5, 10);

/// How the transitions are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// tp_btf where it is available, else the classic tracepoint.
    Auto,
    /// tp_btf or nothing.
    #[value(name = "tp_btf")]
    TpBtf,
    /// The classic tracepoint.
    Tracepoint,
}

#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    pub attach: AttachMode,
    /// The hooks and sources not to use.
    pub without: Vec<Exclusion>,
    /// The level of the programs' own diagnostics: 0 is off, 1 error to 5 trace.
    pub log_level: u8,
}
