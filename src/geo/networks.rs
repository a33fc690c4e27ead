//! One value for every address of both families.
//!
//! *Owns*: [`Networks`], range tables of IPv4, of the top 64 bits of IPv6, and exact ranges for
//! the few /64s that longer networks divide. *Guarantees*: the scope of a look-up is the widest
//! prefix of the asked family in which every address has the same value, and two scopes never
//! overlap without being equal; IPv6 addresses that embed an IPv4 address follow it. *Does not*:
//! know what the values mean.

use std::net::IpAddr;

use super::ranges::{ExactRanges, RangeTable, Ranges};
use super::space::{Canonical, canonical};

/// A value of [`Networks`], a number.
pub(super) trait Value: Copy + Eq + Into<u32> {
    /// Stands in the table of top halves for "see the exact ranges"; no network has it.
    const FINE: Self;
}

/// Values of every address; frozen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Networks<V: Copy> {
    v4: RangeTable<u32, V>,
    v6: RangeTable<u64, V>,
    /// What stands inside each /64 that has the value `FINE`; itself `FINE` elsewhere.
    fine: ExactRanges<u128, V>,
}

impl<V: Value> Networks<V> {
    /// The value of an address and the length of the widest prefix around it, in the family of
    /// the address, that has this one value.
    #[inline]
    pub(super) fn lookup(&self, address: IpAddr) -> (V, u8) {
        match canonical(address) {
            Canonical::V4 { bits, offset } => {
                let (value, scope) = self.v4.lookup(bits);
                (value, scope + offset)
            }
            Canonical::V6(bits) => match self.v6.lookup((bits >> 64) as u64) {
                // At least two values stand in this /64, so the exact scope is longer than 64
                // and whatever the ranges hold outside of it does not matter.
                (value, _) if value == V::FINE => self.fine.lookup(bits),
                found => found,
            },
        }
    }

    /// As [`Self::lookup`] of an IPv4 address.
    #[inline]
    pub(super) fn lookup_v4(&self, bits: u32) -> (V, u8) {
        self.v4.lookup(bits)
    }

    /// Has fetched what a look-up of an IPv4 address reads first.
    #[inline]
    pub(super) fn fetch_index_v4(&self, bits: u32) {
        self.v4.fetch_index(bits);
    }

    /// Has fetched what it reads then.
    #[inline]
    pub(super) fn fetch_ranges_v4(&self, bits: u32) {
        self.v4.fetch_ranges(bits);
    }

    /// The IPv4 ranges in ascending order.
    pub(super) fn iter_v4(&self) -> impl Iterator<Item = (u32, V)> + '_ {
        self.v4.iter()
    }

    /// The IPv6 ranges in ascending order; those in which addresses embed IPv4 are among them.
    pub(super) fn iter_v6(&self) -> impl Iterator<Item = (u128, V)> + '_ {
        let whole = self.v6.iter().map(|(start, value)| (u128::from(start) << 64, value));
        let mut whole = whole.filter(|(_, value)| *value != V::FINE).peekable();
        let mut fine = self.fine.iter().filter(|(_, value)| *value != V::FINE).peekable();
        std::iter::from_fn(move || {
            let next = whole.peek().map(|(start, _)| *start);
            fine.next_if(|(start, _)| next.is_none_or(|next| *start < next))
                .or_else(|| whole.next())
        })
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + self.fine.bytes()
    }
}

/// Collects ranges of both families, each in strictly ascending order from zero.
pub(super) struct Builder<V> {
    v4: Ranges<u32, V>,
    v6: Ranges<u64, V>,
    fine: Ranges<u128, V>,
    /// The value from the last IPv6 start on.
    current: Option<V>,
    /// The /64 that exact ranges are being collected for; what follows it is still to be said.
    open: Option<u64>,
}

impl<V: Value> Default for Builder<V> {
    fn default() -> Self {
        let mut fine = Ranges::default();
        fine.push(0, V::FINE);
        Self { v4: Ranges::default(), v6: Ranges::default(), fine, current: None, open: None }
    }
}

impl<V: Value> Builder<V> {
    /// From this IPv4 address on the value is `value`.
    pub(super) fn push_v4(&mut self, start: u32, value: V) {
        self.v4.push(start, value);
    }

    /// From this IPv6 address on the value is `value`; no address may be named twice.
    pub(super) fn push_v6(&mut self, start: u128, value: V) {
        if self.current == Some(value) {
            return;
        }
        let (half, low) = ((start >> 64) as u64, start as u64);
        if self.open.is_some_and(|open| open != half) {
            self.close();
        }
        if low == 0 {
            self.v6.push(half, value);
        } else {
            if self.open.is_none() {
                self.open = Some(half);
                self.v6.push(half, V::FINE);
                // A range cannot begin inside a /64 unless another one was there before it.
                self.fine.push(start - u128::from(low), self.current.unwrap_or(value));
            }
            self.fine.push(start, value);
        }
        self.current = Some(value);
    }

    /// Says what follows the /64 that was open: the last value in it.
    fn close(&mut self) {
        let after = self.open.take().and_then(|open| open.checked_add(1));
        if let (Some(after), Some(current)) = (after, self.current) {
            self.v6.push(after, current);
            self.fine.push(u128::from(after) << 64, V::FINE);
        }
    }

    /// Freezes what was collected.
    pub(super) fn finish(mut self) -> Networks<V> {
        self.close();
        Networks {
            v4: RangeTable::new(self.v4),
            v6: RangeTable::new(self.v6),
            fine: ExactRanges::new(self.fine),
        }
    }
}

#[cfg(test)]
mod tests;
