//! Reading BTF's bytes, and what can be wrong with them.

/// Why BTF does not tell.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not BTF, or cut short.
    #[error("not valid BTF at byte {at}: {what}")]
    Invalid {
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// This kernel has no such type.
    #[error("the kernel has no {0}")]
    NoType(String),
    /// This kernel's type has no such field.
    #[error("the kernel's struct {0} has no field {1}")]
    NoField(String, String),
    /// This kernel has no such function, or does not let it be traced.
    #[error("the kernel has no function {0}")]
    NoFunction(String),
    /// The field is not as wide as it is read.
    #[error("the kernel's {name} has {actual} bytes, not {expected}")]
    Size {
        /// struct.field
        name: String,
        /// Bytes.
        expected: u32,
        /// Bytes.
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
