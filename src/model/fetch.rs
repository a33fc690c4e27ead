//! Memory asked for before it is read.

/// Has fetched where a value stands that cannot be copied: see [`fetch`].
#[inline]
pub(super) fn fetch_slot<T>(slot: &Option<T>) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(slot);
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(slot.is_some());
}

/// Has the processor fetch the line of memory in which a value stands, without waiting for it.
/// Where there is no safe instruction for that, as beside x86-64, it is read, and waited for.
#[inline]
pub fn fetch<T: Copy>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(value);
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(*value);
}
