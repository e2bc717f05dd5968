//! How many requests are held at once: counters with a limit, which one request takes part in.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many places, of which some are taken.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    max: usize,
}

/// A place in two counters, given back when dropped.
#[derive(Debug)]
pub struct Place<'a> {
    places: [&'a Places; 2],
}

impl Places {
    pub fn new(max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max,
        }
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    fn take(&self) -> bool {
        if self.taken.fetch_add(1, Ordering::AcqRel) < self.max {
            return true;
        }
        self.give_back();
        false
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<'a> Place<'a> {
    /// A place in both, or `None` when either has none left.
    pub fn take(places: [&'a Places; 2]) -> Option<Self> {
        let [first, second] = places;
        if !first.take() {
            return None;
        }
        if !second.take() {
            first.give_back();
            return None;
        }
        Some(Self { places })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for places in self.places {
            places.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_for_one_and_for_all_and_given_back() {
        let (one, other, all) = (Places::new(2), Places::new(2), Places::new(3));
        let taken = [Place::take([&one, &all]), Place::take([&one, &all])].map(Option::unwrap);
        assert!(Place::take([&one, &all]).is_none());
        let third = Place::take([&other, &all]).unwrap();
        assert!(Place::take([&other, &all]).is_none());
        // What was taken for nothing is given back too.
        assert_eq!((one.taken(), other.taken(), all.taken()), (2, 1, 3));
        drop((taken, third));
        assert_eq!((one.taken(), other.taken(), all.taken()), (0, 0, 0));
        assert!(Place::take([&one, &all]).is_some());
        assert!(Place::take([&Places::new(usize::MAX), &Places::new(0)]).is_none());
    }
}
