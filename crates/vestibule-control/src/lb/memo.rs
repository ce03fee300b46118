//! Compiled things, kept as long as what they were compiled from does not change.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Error;

/// A compiled thing. Two of one number are the same object.
pub struct Made<V> {
    pub number: u64,
    pub value: Arc<V>,
}

impl<V> Clone for Made<V> {
    fn clone(&self) -> Self {
        Made { number: self.number, value: self.value.clone() }
    }
}

struct Entry<V> {
    /// Revisions of documents and numbers of things that it was made from.
    stamp: Vec<u64>,
    made: Made<V>,
    used: bool,
}

/// Things of one type by the key of the document that asks for them.
pub struct Memo<V> {
    entries: HashMap<String, Entry<V>>,
    numbers: u64,
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Memo { entries: HashMap::new(), numbers: 0 }
    }
}

impl<V> Memo<V> {
    /// The thing of this key and stamp, made if it is not there. If making fails and an earlier one is there, that one
    /// stays: what served well goes on serving.
    pub fn get(
        &mut self,
        key: &str,
        stamp: Vec<u64>,
        make: impl FnOnce() -> Result<V, Error>,
    ) -> Result<Made<V>, Error> {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.stamp == stamp
        {
            entry.used = true;
            return Ok(entry.made.clone());
        }
        match make() {
            Ok(value) => {
                self.numbers += 1;
                let made = Made { number: self.numbers, value: Arc::new(value) };
                self.entries.insert(key.to_owned(), Entry { stamp, made: made.clone(), used: true });
                Ok(made)
            }
            Err(error) => match self.entries.get_mut(key) {
                Some(entry) => {
                    let context = error.context().unwrap_or_default();
                    tracing::error!(key, %error, context, "cannot be compiled; the last good one goes on serving");
                    entry.used = true;
                    Ok(entry.made.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Everything that is there.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &*entry.made.value)
    }

    /// Forgets what was not asked for since the last sweep.
    pub fn sweep(&mut self) {
        self.entries.retain(|_, entry| std::mem::take(&mut entry.used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_stamp_is_the_same_object() {
        let mut memo = Memo::default();
        let first = memo.get("k", vec![1], || Ok("a")).unwrap();
        let same = memo.get("k", vec![1], || Ok("b")).unwrap();
        assert!(Arc::ptr_eq(&first.value, &same.value) && first.number == same.number);
        let other = memo.get("k", vec![2], || Ok("b")).unwrap();
        assert_eq!((*other.value, other.number), ("b", 2));
    }

    #[test]
    fn the_last_good_one_stays() {
        let mut memo = Memo::default();
        let fail = || Err(Error::internal("broken"));
        assert!(memo.get("k", vec![1], fail).is_err());
        memo.get("k", vec![1], || Ok("good")).unwrap();
        assert_eq!(*memo.get("k", vec![2], fail).unwrap().value, "good");
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut memo = Memo::default();
        memo.get("k", vec![1], || Ok(1)).unwrap();
        memo.sweep();
        memo.sweep();
        assert_eq!(*memo.get("k", vec![1], || Ok(2)).unwrap().value, 2);
    }
}
