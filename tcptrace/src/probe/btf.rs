//! Reads the kernel's own BTF: where a field is, and which number a type has.
//!
//! Only what this program asks for is kept. Parsing all of it into a tree takes tens of megabytes
//! and most of the start-up time; one pass that notes where each type begins takes neither. Format:
//! Documentation/bpf/btf.rst.

mod bytes;
mod kinds;
mod named;

use std::{collections::HashMap, ffi::CStr, path::Path};

use hashbrown::HashSet;

pub use self::{
    bytes::BtfError,
    named::{NamedKind, NamedType, only_named},
};
use self::{
    bytes::{read_u16, read_u32},
    kinds::{
        KIND_ARRAY, KIND_CONST, KIND_DATASEC, KIND_DECL_TAG, KIND_ENUM, KIND_ENUM64, KIND_FLOAT,
        KIND_FUNC, KIND_FUNC_PROTO, KIND_FWD, KIND_INT, KIND_PTR, KIND_RESTRICT, KIND_STRUCT,
        KIND_TYPE_TAG, KIND_TYPEDEF, KIND_UNION, KIND_VAR, KIND_VOLATILE, MAGIC, TYPE_SIZE,
    },
};

/// A type nested deeper than this is a cycle.
const DEPTH: usize = 32;
/// The most structs and unions searched for one field. The kernel's largest have some dozens.
const ANONYMOUS: usize = 1024;

/// The kernel's BTF.
pub struct Btf {
    data: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// The offset of each type; type 0 is void.
    types: Vec<u32>,
    /// The structs, typedefs, enums and functions asked for, by kind and name.
    named: HashMap<(u8, String), u32>,
}

/// A type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u8,
    entries: usize,
    /// Bitfield sizes are packed into member offsets.
    kind_flag: bool,
    size_or_type: u32,
}

/// A member of a struct, direct or nested.
#[derive(Clone, Copy)]
struct Field {
    /// The offset from the outer struct.
    bits: u32,
    /// The width in bits; 0 for a field that is no bitfield.
    bitfield: u32,
    ty: u32,
}

/// Reads a file of BTF.
pub fn read(path: &Path) -> Result<Vec<u8>, BtfError> {
    std::fs::read(path).map_err(|error| BtfError::Read {
        path: path.display().to_string(),
        error,
    })
}

impl Btf {
    /// Notes the structs, typedefs, enums and functions in `wanted`.
    pub fn parse(data: Vec<u8>, wanted: &[&str]) -> Result<Self, BtfError> {
        let wanted: HashSet<&[u8]> = wanted.iter().map(|name| name.as_bytes()).collect();
        let invalid = |at, what| BtfError::Invalid { at, what };
        if read_u16(&data, 0)? != MAGIC {
            return Err(invalid(0, "no BTF magic of this machine's byte order"));
        }
        let header = read_u32(&data, 4)? as usize;
        let section = |offset_at, length_at| -> Result<std::ops::Range<usize>, BtfError> {
            let start = header.saturating_add(read_u32(&data, offset_at)? as usize);
            let end = start.saturating_add(read_u32(&data, length_at)? as usize);
            if end > data.len() {
                return Err(invalid(offset_at, "a section reaches past the end"));
            }
            Ok(start..end)
        };
        let types_section = section(8, 12)?;
        let strings = section(16, 20)?;
        let mut btf = Self {
            data,
            strings,
            // No type is shorter.
            types: Vec::with_capacity(types_section.len() / TYPE_SIZE + 1),
            named: HashMap::new(),
        };
        btf.types.push(0);
        let mut at = types_section.start;
        while at < types_section.end {
            let ty = btf.type_at(at)?;
            if matches!(ty.kind, KIND_STRUCT | KIND_TYPEDEF | KIND_ENUM | KIND_FUNC)
                && let name = btf.bytes(ty.name)
                && wanted.contains(name)
            {
                let name = btf.string(ty.name).to_owned();
                let id = u32::try_from(btf.types.len()).unwrap_or(0);
                btf.named.entry((ty.kind, name)).or_insert(id);
            }
            if ty.kind == KIND_ENUM && ty.name == 0 {
                btf.note_enumerators(ty, &wanted)?;
            }
            btf.types
                .push(u32::try_from(at).map_err(|_| invalid(at, "too large"))?);
            at += TYPE_SIZE + btf.extra(ty)?;
        }
        if at != types_section.end {
            return Err(invalid(at, "the last type is cut short"));
        }
        Ok(btf)
    }

    /// Notes an enum without a name by those of its values that are wanted.
    fn note_enumerators(&mut self, ty: Type, wanted: &HashSet<&[u8]>) -> Result<(), BtfError> {
        let id = u32::try_from(self.types.len()).unwrap_or(0);
        for entry in 0..ty.entries {
            let name = read_u32(&self.data, ty.at + TYPE_SIZE + entry * 8)?;
            if wanted.contains(self.bytes(name)) {
                let name = self.string(name).to_owned();
                self.named.entry((KIND_ENUM, name)).or_insert(id);
            }
        }
        Ok(())
    }

    /// Returns the names of the structs and unions that are declared and not described.
    #[cfg(test)]
    pub fn declarations(&self) -> Vec<String> {
        let types = (1..self.types.len()).filter_map(|id| self.type_of(id as u32).ok());
        types
            .filter(|ty| ty.kind == KIND_FWD)
            .map(|ty| self.string(ty.name).to_owned())
            .collect()
    }

    #[cfg(test)]
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    /// Returns the number of the typedef `name`, which must have been wanted.
    pub fn typedef_id(&self, name: &str) -> Result<u32, BtfError> {
        self.named_id(KIND_TYPEDEF, name)
            .ok_or_else(|| BtfError::NoType(format!("typedef {name}")))
    }

    /// Returns the number of the function `name`, which must have been wanted.
    pub fn function_id(&self, name: &str) -> Result<u32, BtfError> {
        self.named_id(KIND_FUNC, name)
            .ok_or_else(|| BtfError::NoFunction(name.to_owned()))
    }

    /// Returns how many parameters the function `name` has, which must have been wanted.
    pub fn function_parameters(&self, name: &str) -> Result<u32, BtfError> {
        let function = self.type_of(self.function_id(name)?)?;
        self.prototype_parameters(function.size_or_type)
    }

    /// Returns how many arguments the tracepoint of the typedef `name` passes to a program:
    /// `typedef void (*btf_trace_x)(void *__data, …)`, without `__data`.
    pub fn tracepoint_arguments(&self, name: &str) -> Result<u32, BtfError> {
        let pointer = self.resolve(self.typedef_id(name)?)?;
        Ok(self
            .prototype_parameters(pointer.size_or_type)?
            .saturating_sub(1))
    }

    /// Returns the names of the enum `name` by number; empty when there is none.
    pub fn enum_names(&self, name: &str) -> Result<Vec<(u32, String)>, BtfError> {
        let Some(id) = self.named_id(KIND_ENUM, name) else {
            return Ok(Vec::new());
        };
        let ty = self.type_of(id)?;
        (0..ty.entries)
            .map(|entry| {
                let at = ty.at + TYPE_SIZE + entry * 8;
                let name = self.string(read_u32(&self.data, at)?).to_owned();
                Ok((read_u32(&self.data, at + 4)?, name))
            })
            .collect()
    }

    /// Returns the value of that name in an unnamed enum, which must have been wanted.
    pub fn enum_value(&self, name: &str) -> Result<u32, BtfError> {
        self.enum_names(name)?
            .into_iter()
            .find_map(|(value, of)| (of == name).then_some(value))
            .ok_or_else(|| BtfError::NoType(format!("enum value {name}")))
    }

    fn named_id(&self, kind: u8, name: &str) -> Option<u32> {
        self.named.get(&(kind, name.to_owned())).copied()
    }

    fn prototype_parameters(&self, id: u32) -> Result<u32, BtfError> {
        let ty = self.type_of(id)?;
        if ty.kind != KIND_FUNC_PROTO {
            return Err(BtfError::Invalid {
                at: ty.at,
                what: "a function without a prototype",
            });
        }
        u32::try_from(ty.entries).map_err(|_| BtfError::Invalid {
            at: ty.at,
            what: "too many parameters",
        })
    }

    /// Returns the byte offset of a field, given as a path of names (`ns.inum`) from the struct
    /// `name`, which must have been wanted. Anonymous structs and unions need not be named.
    ///
    /// Fails when there is no such field, it is a bitfield, or not `size` bytes wide.
    pub fn offset(&self, name: &str, path: &str, size: u32) -> Result<u32, BtfError> {
        let field = self.field(name, path)?;
        let actual = match field.bitfield {
            0 => self.size(field.ty, 0)?,
            _ => 0,
        };
        if field.bitfield != 0 || field.bits % 8 != 0 {
            Err(BtfError::NoField(
                name.to_owned(),
                format!("{path} at a byte"),
            ))
        } else if actual == size {
            Ok(field.bits / 8)
        } else {
            Err(BtfError::Size {
                name: format!("{name}.{path}"),
                expected: size,
                actual,
            })
        }
    }

    /// Returns the byte offset of a bitfield of one bit, and its bit in that byte. BTF counts bits
    /// from the lowest on little-endian machines.
    pub fn bit(&self, name: &str, path: &str) -> Result<(u32, u32), BtfError> {
        let field = self.field(name, path)?;
        if field.bitfield == 1 {
            Ok((field.bits / 8, 1 << (field.bits % 8)))
        } else {
            Err(BtfError::NoField(
                name.to_owned(),
                format!("{path} of one bit"),
            ))
        }
    }

    fn field(&self, name: &str, path: &str) -> Result<Field, BtfError> {
        let id = self
            .named_id(KIND_STRUCT, name)
            .ok_or_else(|| BtfError::NoType(format!("struct {name}")))?;
        let mut found = Field {
            bits: 0,
            bitfield: 0,
            ty: id,
        };
        for step in path.split('.') {
            let mut budget = ANONYMOUS;
            let member = self
                .member(found.ty, step, &mut budget)?
                .ok_or_else(|| BtfError::NoField(name.to_owned(), path.to_owned()))?;
            found = Field {
                bits: found.bits.saturating_add(member.bits),
                ..member
            };
        }
        Ok(found)
    }

    /// Returns a member, searching anonymous members too, at most `left` of them in all: a struct
    /// that contains itself twice has 2^depth.
    fn member(&self, id: u32, field: &str, left: &mut usize) -> Result<Option<Field>, BtfError> {
        let ty = self.resolve(id)?;
        if !matches!(ty.kind, KIND_STRUCT | KIND_UNION) || *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        for entry in 0..ty.entries {
            let at = ty.at + TYPE_SIZE + entry * 12;
            let name = self.string(read_u32(&self.data, at)?);
            let member_type = read_u32(&self.data, at + 4)?;
            let raw = read_u32(&self.data, at + 8)?;
            let (bits, bitfield) = if ty.kind_flag {
                (raw & 0x00ff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if name == field {
                return Ok(Some(Field {
                    bits,
                    bitfield,
                    ty: member_type,
                }));
            }
            if name.is_empty()
                && let Some(inner) = self.member(member_type, field, left)?
            {
                // Saturated, it is no byte's offset and is refused as such.
                return Ok(Some(Field {
                    bits: bits.saturating_add(inner.bits),
                    ..inner
                }));
            }
        }
        Ok(None)
    }

    /// Returns a type's size in bytes.
    fn size(&self, id: u32, depth: usize) -> Result<u32, BtfError> {
        let ty = self.resolve(id)?;
        match ty.kind {
            KIND_PTR => Ok(8),
            KIND_ARRAY if depth < DEPTH => {
                let element = read_u32(&self.data, ty.at + TYPE_SIZE)?;
                let count = read_u32(&self.data, ty.at + TYPE_SIZE + 8)?;
                Ok(self.size(element, depth + 1)?.saturating_mul(count))
            }
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_FLOAT | KIND_ENUM64 => {
                Ok(ty.size_or_type)
            }
            _ => Err(BtfError::Invalid {
                at: ty.at,
                what: "a field of a type without a size",
            }),
        }
    }

    /// Returns the type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<Type, BtfError> {
        for _ in 0..DEPTH {
            let at = self.types.get(id as usize).filter(|_| id != 0);
            let Some(&at) = at else {
                break;
            };
            let ty = self.type_at(at as usize)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Ok(ty),
            }
        }
        Err(BtfError::Invalid {
            at: 0,
            what: "a type that leads nowhere",
        })
    }

    /// Returns the type of a number, without following typedefs and qualifiers.
    fn type_of(&self, id: u32) -> Result<Type, BtfError> {
        let at = self.types.get(id as usize).filter(|_| id != 0);
        let &at = at.ok_or(BtfError::Invalid {
            at: 0,
            what: "a type that leads nowhere",
        })?;
        self.type_at(at as usize)
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let info = read_u32(&self.data, at + 4)?;
        Ok(Type {
            at,
            name: read_u32(&self.data, at)?,
            kind: (info >> 24 & 0x1f) as u8,
            entries: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            size_or_type: read_u32(&self.data, at + 8)?,
        })
    }

    /// Returns how many bytes a kind adds to the fixed part.
    fn extra(&self, ty: Type) -> Result<usize, BtfError> {
        Ok(match ty.kind {
            KIND_PTR | KIND_FWD | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT
            | KIND_FUNC | KIND_FLOAT | KIND_TYPE_TAG => 0,
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * ty.entries,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * ty.entries,
            _ => {
                return Err(BtfError::Invalid {
                    at: ty.at,
                    what: "a kind of type not known here",
                });
            }
        })
    }

    /// Returns the string at an offset; empty if there is none.
    fn bytes(&self, offset: u32) -> &[u8] {
        let all = &self.data[self.strings.clone()];
        let rest = all.get(offset as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).map_or(&[], CStr::to_bytes)
    }

    fn string(&self, offset: u32) -> &str {
        std::str::from_utf8(self.bytes(offset)).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
