//! Reads BTF's bytes, and names what is wrong with them.

/// Why BTF cannot tell.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    /// Not BTF, or cut short.
    #[error("not valid BTF at byte {at}: {what}")]
    Invalid { at: usize, what: &'static str },
    #[error("the kernel has no {0}")]
    NoType(String),
    #[error("the kernel's struct {0} has no field {1}")]
    NoField(String, String),
    /// The kernel has no such function, or does not let it be traced.
    #[error("the kernel has no function {0}")]
    NoFunction(String),
    /// The field does not have the expected width.
    #[error("the kernel's {name} has {actual} bytes, not {expected}")]
    Size {
        /// struct.field
        name: String,
        expected: u32,
        actual: u32,
    },
}

pub(super) fn read_u16(data: &[u8], at: usize) -> Result<u16, BtfError> {
    read(data, at).map(u16::from_ne_bytes)
}

pub(super) fn read_u32(data: &[u8], at: usize) -> Result<u32, BtfError> {
    read(data, at).map(u32::from_ne_bytes)
}

fn read<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N], BtfError> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(BtfError::Invalid {
            at,
            what: "cut short",
        })
}
