//! BTF, type by type (Documentation/bpf/btf.rst).

use super::*;

/// Name, type, and offset in bits (with the bitfield's width on top where the flag is set).
pub(super) type Member<'a> = (&'a str, u32, u32);

/// Types in the order of their numbers.
#[derive(Default)]
pub(super) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

fn put(to: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        to.extend_from_slice(&word.to_ne_bytes());
    }
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Any type; answers its number.
    pub(super) fn add(
        &mut self,
        name: &str,
        kind: u8,
        entries: u32,
        flag: bool,
        size_or_type: u32,
        extra: &[u32],
    ) -> u32 {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | u32::from(kind) << 24 | entries;
        put(&mut self.types, &[name, info, size_or_type]);
        put(&mut self.types, extra);
        self.count += 1;
        self.count
    }

    pub(super) fn add_members(
        &mut self,
        name: &str,
        kind: u8,
        size: u32,
        flag: bool,
        members: &[Member<'_>],
    ) -> u32 {
        let mut extra = Vec::new();
        for &(member, id, bits) in members {
            extra.extend([self.name(member), id, bits]);
        }
        let entries = u32::try_from(members.len()).unwrap();
        self.add(name, kind, entries, flag, size, &extra)
    }

    pub(super) fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.add_members(name, KIND_STRUCT, size, false, members)
    }

    pub(super) fn union(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.add_members(name, KIND_UNION, size, false, members)
    }

    pub(super) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, KIND_INT, 0, false, size, &[size * 8])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", KIND_PTR, 0, false, to, &[])
    }

    pub(super) fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, KIND_TYPEDEF, 0, false, of, &[])
    }

    pub(super) fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", KIND_ARRAY, 0, false, 0, &[of, 0, count])
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (length(&self.types), length(&self.strings));
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        put(&mut out, &[24, 0, types, types, strings]);
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}
