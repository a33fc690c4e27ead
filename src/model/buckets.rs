//! Arrays of shared buckets by key hash: what changed is found by comparing pointers.

use std::sync::Arc;

/// How many buckets every array has. At 100,000 services a bucket holds 25, so that rebuilding
/// one costs microseconds; the array itself is 64 KiB, cheap to clone for every publication.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 12;

/// How far from where a hash would be among evenly spread ones an item is looked for, before it is
/// searched for by halves: four times the standard deviation in a bucket of 64, which takes 250,000
/// services.
const STEPS: usize = 16;

/// The bucket that a key hash falls in: its top bits, so that an array read in order is sorted
/// by hash.
#[must_use]
#[inline]
pub fn bucket_of(hash: u64) -> usize {
    (hash >> (u64::BITS - BUCKET_BITS)) as usize
}

/// An item that knows the hash by which it is found.
pub trait Keyed {
    /// The 64-bit hash of the item's key.
    fn hash(&self) -> u64;
}

/// [`BUCKETS`] immutable slices, each sorted by hash and shared by pointer between generations.
#[derive(Clone, Debug)]
pub struct Buckets<T> {
    slots: Box<[Option<Arc<[T]>>]>,
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self { slots: (0..BUCKETS).map(|_| None).collect() }
    }
}

impl<T> Buckets<T> {
    /// The items of one bucket.
    #[must_use]
    #[inline]
    pub fn bucket(&self, index: usize) -> &[T] {
        self.slots[index].as_deref().unwrap_or(&[])
    }

    /// Replaces one bucket; the caller keeps `items` sorted by hash.
    pub fn replace(&mut self, index: usize, items: Vec<T>) {
        self.slots[index] = (!items.is_empty()).then(|| items.into());
    }

    /// Whether a bucket is the very same in both arrays.
    #[must_use]
    pub fn same(&self, other: &Self, index: usize) -> bool {
        match (&self.slots[index], &other.slots[index]) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// The indices of the buckets that differ between two arrays.
    pub fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        (0..BUCKETS).filter(move |&index| !self.same(other, index))
    }

    /// Every item, in order of buckets.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..BUCKETS).flat_map(|index| self.bucket(index))
    }

    /// How many items there are; walks the buckets, not the items.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..BUCKETS).map(|index| self.bucket(index).len()).sum()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}

impl<T: Keyed> Buckets<T> {
    /// Sorts `items` into buckets.
    #[must_use]
    pub fn from_items(items: impl IntoIterator<Item = T>) -> Self {
        let mut sorted: Vec<T> = items.into_iter().collect();
        sorted.sort_by_key(Keyed::hash);
        let mut buckets = Self::default();
        let mut rest = sorted.into_iter().peekable();
        while let Some(first) = rest.next() {
            let index = bucket_of(first.hash());
            let mut items = vec![first];
            while let Some(item) = rest.next_if(|item| bucket_of(item.hash()) == index) {
                items.push(item);
            }
            buckets.replace(index, items);
        }
        buckets
    }

    /// The items with this hash: one, but for collisions.
    pub fn find(&self, hash: u64) -> impl Iterator<Item = &T> {
        let (bucket, start) = self.place(hash);
        self.bucket(bucket)[start..].iter().take_while(move |item| item.hash() == hash)
    }

    /// The bucket of a hash, and how many of its items have a smaller one.
    #[inline]
    pub fn place(&self, hash: u64) -> (usize, usize) {
        let index = bucket_of(hash);
        let items = self.bucket(index);
        let smaller = |at: usize| items.get(at).is_some_and(|item| item.hash() < hash);
        // A few steps from where it must be, most often on the same cache line.
        let mut at = Self::guess(hash, items.len());
        for _ in 0..STEPS {
            if smaller(at) {
                at += 1;
            } else if at > 0 && !smaller(at - 1) {
                at -= 1;
            } else {
                return (index, at);
            }
        }
        (index, items.partition_point(|item| item.hash() < hash))
    }

    /// Where among `count` items that of a hash is, as hashes are spread evenly.
    #[inline]
    fn guess(hash: u64, count: usize) -> usize {
        ((u128::from(hash << BUCKET_BITS) * count as u128) >> u64::BITS) as usize
    }

    /// An item close to where that of a hash is, found without looking at any.
    #[inline]
    pub fn near(&self, hash: u64) -> Option<&T> {
        let items = self.bucket(bucket_of(hash));
        items.get(Self::guess(hash, items.len()))
    }

    /// Puts `item` in the place of those that `replaces` names among the items of its hash.
    pub fn upsert(&mut self, item: T, replaces: impl Fn(&T) -> bool)
    where
        T: Clone,
    {
        let index = bucket_of(item.hash());
        let hash = item.hash();
        let mut items: Vec<T> = self
            .bucket(index)
            .iter()
            .filter(|old| old.hash() != hash || !replaces(old))
            .cloned()
            .collect();
        let place = items.partition_point(|old| old.hash() <= hash);
        items.insert(place, item);
        self.replace(index, items);
    }

    /// Takes out those that `matches` names among the items of `hash`; says whether any was.
    pub fn remove(&mut self, hash: u64, matches: impl Fn(&T) -> bool) -> bool
    where
        T: Clone,
    {
        let index = bucket_of(hash);
        let old = self.bucket(index);
        let items: Vec<T> =
            old.iter().filter(|item| item.hash() != hash || !matches(item)).cloned().collect();
        let found = items.len() != old.len();
        if found {
            self.replace(index, items);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Keyed};

    #[derive(Clone, Debug, PartialEq)]
    struct Item(u64, &'static str);

    impl Keyed for Item {
        fn hash(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn places_in_even_and_in_crowded_buckets() {
        // All in the first bucket: spread over it, or all at its end.
        for spread in [1_u64 << 42, 1] {
            let hashes = (0..1000).map(|i| (1 << 52) - 1 - (999 - i) * spread);
            let hashes: Vec<u64> = hashes.flat_map(|hash| [hash, hash]).collect();
            let items = Buckets::from_items(hashes.iter().map(|hash| Item(*hash, "")));
            for (at, hash) in hashes.iter().enumerate() {
                assert_eq!(items.place(*hash), (0, at & !1));
                assert_eq!(
                    items.place(hash - 1).1,
                    if spread > 1 { at & !1 } else { (at & !1).saturating_sub(2) }
                );
                assert_eq!(items.find(*hash).count(), 2);
            }
            assert_eq!(items.place((1 << 52) + 1), (1, 0));
        }
    }

    #[test]
    fn upsert_and_remove_touch_one_bucket() {
        let base = Buckets::from_items([Item(1, "a"), Item(u64::MAX, "z"), Item(1, "b")]);
        let mut next = base.clone();
        next.upsert(Item(1, "b"), |old| old.1 == "b");
        assert_eq!(base.changed(&next).collect::<Vec<_>>(), [0]);
        assert_eq!(next.find(1).map(|i| i.1).collect::<Vec<_>>(), ["a", "b"]);
        assert!(next.remove(1, |old| old.1 == "a") && !next.remove(2, |_| true));
        assert_eq!((next.len(), base.len()), (2, 3));
    }
}
