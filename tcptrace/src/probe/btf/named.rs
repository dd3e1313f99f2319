//! BTF with a few names in it, for the loader, which needs only the types' numbers.

use std::collections::HashMap;

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
    let mut entries = HashMap::new();
    for (id, kind, name) in named {
        let kind = match kind {
            NamedKind::Typedef => KIND_TYPEDEF,
            NamedKind::Function => KIND_FUNC,
        };
        entries.insert(*id, (u32::try_from(strings.len()).unwrap_or(0), kind));
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let last = named.iter().map(|(id, ..)| *id).max().unwrap_or(0);
    let mut types = Vec::with_capacity(last as usize * TYPE_SIZE);
    for id in 1..=last {
        let (name, kind) = entries.get(&id).copied().unwrap_or((0, KIND_FWD));
        types.extend_from_slice(&name.to_ne_bytes());
        types.extend_from_slice(&(u32::from(kind) << 24).to_ne_bytes());
        types.extend_from_slice(&0_u32.to_ne_bytes());
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
