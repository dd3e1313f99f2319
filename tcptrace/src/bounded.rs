//! A bounded map.

use std::{collections::VecDeque, hash::Hash};

use hashbrown::HashMap;

/// A map that drops its oldest key when full.
#[derive(Debug)]
pub struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
    limit: usize,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub fn new(limit: usize) -> Self {
        Self {
            map: HashMap::new(),
            order: VecDeque::new(),
            limit,
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Removes a key. Takes time proportional to the number of keys.
    pub fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_for_the_newest() {
        let mut bounded = Bounded::new(2);
        for (key, value) in [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')] {
            bounded.insert(key, value);
        }
        assert_eq!(bounded.get(&1), None);
        assert_eq!((bounded.get(&2), bounded.get(&3)), (Some(&'b'), Some(&'d')));
        bounded.insert(1, 'e');
        assert_eq!((bounded.get(&1), bounded.get(&2)), (Some(&'e'), None));
        bounded.remove(&3);
        bounded.insert(3, 'f');
        bounded.insert(4, 'g');
        assert_eq!((bounded.get(&1), bounded.get(&3)), (None, Some(&'f')));
    }
}
