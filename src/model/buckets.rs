//! Arrays of shared buckets by key hash: what changed is found by comparing pointers.

use std::sync::Arc;

use super::fetch::fetch_slot;

/// How many buckets every array has. At 100,000 services a bucket holds 25, so that rebuilding
/// one costs microseconds.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 12;

/// Buckets a page. An array is 64 pages of 64 buckets, so that a changed bucket copies two short
/// lists of pointers. One list of 4,096 would be copied whole, and each count that this raises and
/// the end of the old array lowers again is a line of memory that no cache holds in a large
/// federation: a tenth of a millisecond for every array.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 6;
const PAGES: usize = BUCKETS / PAGE;

/// How many items are looked at together around where one is expected. In a bucket of 25, which takes
/// 100,000 services, the standard deviation is at most 2.5, and nine of ten are told by the first eight.
const WINDOW: usize = 8;

/// Windows, one behind the other, that are looked at before an item is searched for by halves: 32 items
/// to one side, four times the standard deviation in a bucket of 250, which takes a million services.
const WINDOWS: usize = 5;

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

/// [`BUCKETS`] immutable slices, each sorted by hash and shared by pointer between generations. A
/// clone is one pointer.
#[derive(Clone, Debug)]
pub struct Buckets<T> {
    pages: Arc<[Arc<Page<T>>; PAGES]>,
}

/// [`PAGE`] buckets, shared as a whole until one of them changes.
#[derive(Debug)]
struct Page<T>([Option<Arc<[T]>>; PAGE]);

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self([const { None }; PAGE])
    }
}

// Derived, it would ask for `T: Clone`.
impl<T> Clone for Page<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        let empty = Arc::new(Page::default());
        Self { pages: Arc::new(std::array::from_fn(|_| empty.clone())) }
    }
}

impl<T: PartialEq> PartialEq for Buckets<T> {
    fn eq(&self, other: &Self) -> bool {
        self.changed(other).all(|index| self.bucket(index) == other.bucket(index))
    }
}

impl<T> Buckets<T> {
    #[inline]
    fn slot(&self, index: usize) -> &Option<Arc<[T]>> {
        &self.pages[index >> PAGE_BITS].0[index % PAGE]
    }

    /// The items of one bucket.
    #[must_use]
    #[inline]
    pub fn bucket(&self, index: usize) -> &[T] {
        self.slot(index).as_deref().unwrap_or(&[])
    }

    /// Where among `count` items that of a hash is, as hashes are spread evenly.
    #[inline]
    fn guess(hash: u64, count: usize) -> usize {
        ((u128::from(hash << BUCKET_BITS) * count as u128) >> u64::BITS) as usize
    }

    /// Where the items begin among which that of a hash is looked for first, of `count`.
    #[inline]
    fn window(hash: u64, count: usize) -> usize {
        Self::guess(hash, count).saturating_sub(WINDOW / 2).min(count.saturating_sub(WINDOW))
    }

    /// Of the items that are looked at first for that of a hash, gives `fetch` the first, the middle and
    /// the last, as far as there are: found without looking at any.
    #[inline]
    pub fn near(&self, hash: u64, fetch: impl Fn(&T)) {
        let items = self.bucket(bucket_of(hash));
        let start = Self::window(hash, items.len());
        for at in [start, start + WINDOW / 2, start + WINDOW - 1] {
            if let Some(item) = items.get(at) {
                fetch(item);
            }
        }
    }

    /// Has fetched where the bucket of a hash is told.
    #[inline]
    pub fn fetch_bucket(&self, hash: u64) {
        fetch_slot(self.slot(bucket_of(hash)));
    }

    /// Replaces one bucket; the caller keeps `items` sorted by hash.
    pub fn replace(&mut self, index: usize, items: Vec<T>) {
        if items.is_empty() && self.slot(index).is_none() {
            return;
        }
        let page = &mut Arc::make_mut(&mut self.pages)[index >> PAGE_BITS];
        Arc::make_mut(page).0[index % PAGE] = (!items.is_empty()).then(|| items.into());
    }

    /// Whether a bucket is the very same in both arrays.
    #[must_use]
    pub fn same(&self, other: &Self, index: usize) -> bool {
        match (self.slot(index), other.slot(index)) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// The indices of the buckets that differ between two arrays, in order. The work grows with
    /// their number.
    pub fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let pages = if Arc::ptr_eq(&self.pages, &other.pages) { 0..0 } else { 0..PAGES };
        let pages = pages.filter(|page| !Arc::ptr_eq(&self.pages[*page], &other.pages[*page]));
        let buckets = pages.flat_map(|page| page * PAGE..(page + 1) * PAGE);
        buckets.filter(|index| !self.same(other, *index))
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
        self.pages.iter().all(|page| page.0.iter().all(Option::is_none))
    }
}

/// The hashes of which two slices, each sorted by hash, hold other items, as `same` tells of two;
/// in order, each once.
pub fn differing<'a, T: Keyed>(
    old: &'a [T],
    new: &'a [T],
    same: impl Fn(&T, &T) -> bool + 'a,
) -> impl Iterator<Item = u64> + 'a {
    let (mut old, mut new) = (old, new);
    std::iter::from_fn(move || {
        loop {
            let hash = [old.first(), new.first()].into_iter().flatten().map(Keyed::hash).min()?;
            let of_hash = |items: &[T]| items.iter().take_while(|i| i.hash() == hash).count();
            let (before, now) = (old.split_at(of_hash(old)), new.split_at(of_hash(new)));
            (old, new) = (before.1, now.1);
            let (before, now) = (before.0, now.0);
            if before.len() != now.len() || !before.iter().zip(now).all(|(a, b)| same(a, b)) {
                return Some(hash);
            }
        }
    })
}

/// How many of a window's items, sorted, have a smaller hash: by halves, always in as many steps and
/// without a branch, as which way each goes cannot be foretold.
#[inline]
fn smaller<T: Keyed>(near: &[T; WINDOW], hash: u64) -> usize {
    const { assert!(WINDOW == 8) };
    [4, 2, 1, 1].into_iter().fold(0, |smaller, step| {
        // No more than the last; the remainder spares the question.
        let at = (smaller + step - 1) % WINDOW;
        smaller + step * usize::from(near[at].hash() < hash)
    })
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
        let (items, start) = self.place(hash);
        items[start..].iter().take_while(move |item| item.hash() == hash)
    }

    /// The items of the bucket of a hash, and how many of them have a smaller one.
    #[inline]
    pub fn place(&self, hash: u64) -> (&[T], usize) {
        let items = self.bucket(bucket_of(hash));
        let mut start = Self::window(hash, items.len());
        for _ in 0..WINDOWS {
            let Some(near) = items[start..].first_chunk::<WINDOW>() else { break };
            let smaller = smaller(near, hash);
            // The next window has an item in common with this one, so that one of the two tells.
            match smaller {
                0 if start > 0 => start = start.saturating_sub(WINDOW - 1),
                WINDOW if start + WINDOW < items.len() => {
                    start = (start + WINDOW - 1).min(items.len() - WINDOW);
                }
                _ => return (items, start + smaller),
            }
        }
        (items, items.partition_point(|item| item.hash() < hash))
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
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::{BUCKETS, Buckets, Keyed, PAGE, PAGES, differing};

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
                assert_eq!(items.place(*hash).1, at & !1);
                assert_eq!(
                    items.place(hash - 1).1,
                    if spread > 1 { at & !1 } else { (at & !1).saturating_sub(2) }
                );
                assert_eq!(items.find(*hash).count(), 2);
            }
            assert!(matches!(items.place((1 << 52) + 1), ([], 0)));
        }
    }

    proptest! {
        /// However items crowd, how many of them have one hash, and whether there is one at all.
        #[test]
        fn an_item_is_found_wherever_it_is(
            hashes in vec(prop_oneof![0..4_u64, 0..40_u64, any::<u64>()], 0..60),
            shift in select(vec![0_u32, 12, 30, 46]),
            end in any::<bool>(),
            asked in any::<u64>(),
        ) {
            // All in one bucket: over all of it, or in a small part at either end.
            let last = (1 << 52) - 1;
            let place = |hash: u64| {
                let low = (hash & last) >> shift;
                if end { last - low } else { low }
            };
            let hashes: Vec<u64> = hashes.into_iter().map(place).collect();
            let items = Buckets::from_items(hashes.iter().map(|hash| Item(*hash, "")));
            let mut sorted = hashes.clone();
            sorted.sort_unstable();
            let beside = hashes.iter().flat_map(|h| [*h, h.saturating_sub(1), (h + 1).min(last)]);
            for hash in beside.chain([place(asked)]) {
                let expected = sorted.partition_point(|other| *other < hash);
                prop_assert_eq!(items.place(hash).1, expected);
                let near = std::cell::RefCell::new(Vec::new());
                items.near(hash, |item| near.borrow_mut().push(item.0));
                prop_assert_eq!(near.borrow().is_empty(), hashes.is_empty());
            }
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

    #[test]
    fn a_changed_bucket_copies_its_page_alone() {
        let of = |bucket: usize| Item((bucket as u64) << 52, "");
        let base = Buckets::from_items((0..BUCKETS).map(of));
        let mut next = base.clone();
        assert!(Arc::ptr_eq(&base.pages, &next.pages));
        next.upsert(Item(1000 << 52, "new"), |_| true);
        let copied = (0..PAGES).filter(|page| !Arc::ptr_eq(&base.pages[*page], &next.pages[*page]));
        assert_eq!(copied.collect::<Vec<_>>(), [1000 / PAGE]);
        assert_eq!(base.changed(&next).collect::<Vec<_>>(), [1000]);
        assert_eq!((base.bucket(1000)[0].1, next.bucket(1000)[0].1), ("", "new"));
        let empty = Buckets::<Item>::default();
        let mut still = empty.clone();
        still.replace(7, Vec::new());
        assert!(Arc::ptr_eq(&empty.pages, &still.pages), "nothing has changed");
    }

    #[test]
    fn what_differs_is_found_by_hash() {
        let old = [Item(1, "a"), Item(2, "b"), Item(2, "c"), Item(4, "d"), Item(5, "e")];
        let new = [Item(1, "a"), Item(2, "c"), Item(2, "b"), Item(3, "x"), Item(5, "y")];
        let found = |old, new| differing(old, new, Item::eq).collect::<Vec<_>>();
        assert_eq!(found(&old, &new), [2, 3, 4, 5]);
        assert_eq!(found(&old, &old), [0; 0]);
        assert_eq!(found(&old[..2], &[]), [1, 2]);
    }
}
