//! The two ways to read kernel memory: a plain load where the verifier knows the type, a helper
//! call where it does not.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// A way to read a `T` at a byte offset from a pointer.
pub trait Access: Copy {
    /// Whether a pointer that is read has a type too, and can be followed.
    const TYPED: bool;

    /// Reads; what cannot be read is zero.
    ///
    /// # Safety
    ///
    /// For [`Direct`], the verifier must know `base` as a pointer to a kernel type.
    unsafe fn read<T: Copy>(base: *const u8, offset: usize, zero: T) -> T;
}

/// A plain load, for pointers the verifier knows the type of (`PTR_TO_BTF_ID`).
#[derive(Clone, Copy)]
pub struct Direct;

/// `bpf_probe_read_kernel`, for any pointer.
#[derive(Clone, Copy)]
pub struct Probe;

impl Access for Direct {
    const TYPED: bool = true;

    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: usize, _: T) -> T {
        // SAFETY: the verifier checks the load; a bad address reads as zero by the kernel's
        // exception table.
        unsafe { base.add(offset).cast::<T>().read_volatile() }
    }
}

impl Access for Probe {
    const TYPED: bool = false;

    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: usize, zero: T) -> T {
        // SAFETY: the helper takes any address.
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset).cast::<T>()) }.unwrap_or(zero)
    }
}
