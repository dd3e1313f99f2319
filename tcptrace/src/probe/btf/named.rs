//! BTF with a few names in it, for the loader, which needs only the types' numbers.

use super::kinds::{KIND_FUNC, KIND_FWD, KIND_TYPEDEF, MAGIC, TYPE_SIZE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedKind {
    Typedef,
    Function,
}

/// A type's number, kind and name.
pub type NamedType = (u32, NamedKind, String);

/// Returns BTF with only the given types at the given numbers. The loader's parser takes it: it
/// asks for a type's number and nothing else.
pub fn only_named(named: &[NamedType]) -> Vec<u8> {
    let mut strings = vec![0_u8];
    let last = named.iter().map(|(id, ..)| *id as usize).max().unwrap_or(0);
    let mut types = entry(0, KIND_FWD).repeat(last);
    for (id, kind, name) in named {
        let kind = match kind {
            NamedKind::Typedef => KIND_TYPEDEF,
            NamedKind::Function => KIND_FUNC,
        };
        let at = (*id as usize).saturating_sub(1) * TYPE_SIZE;
        if let Some(place) = types.get_mut(at..at + TYPE_SIZE) {
            let name = u32::try_from(strings.len()).unwrap_or(0);
            place.copy_from_slice(&entry(name, kind));
        }
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let (types_len, strings_len) = (
        u32::try_from(types.len()).unwrap_or(0),
        u32::try_from(strings.len()).unwrap_or(0),
    );
    let mut out = Vec::with_capacity(24 + types.len() + strings.len());
    out.extend_from_slice(&MAGIC.to_ne_bytes());
    out.extend_from_slice(&[1, 0]);
    for word in [24, 0, types_len, types_len, strings_len] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&types);
    out.extend_from_slice(&strings);
    out
}

/// Returns a type without content.
fn entry(name: u32, kind: u8) -> [u8; TYPE_SIZE] {
    let mut bytes = [0; TYPE_SIZE];
    bytes[..4].copy_from_slice(&name.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(u32::from(kind) << 24).to_ne_bytes());
    bytes
}
