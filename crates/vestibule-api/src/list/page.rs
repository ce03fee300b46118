//! One page of a list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use vestibule_control::Error;
use vestibule_model::time;

use super::Filter;

/// How a list was asked for.
#[derive(Debug)]
pub struct Listing {
    /// Most entries on a page; at least 1.
    pub size: usize,
    /// Where the page before ended.
    pub token: Option<String>,
    pub filter: Option<Filter>,
    /// By `creationTimestamp`, the newest first, instead of by key.
    pub newest_first: bool,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing { size: usize::MAX, token: None, filter: None, newest_first: false }
    }
}

/// One page.
#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// There are more entries, after this.
    pub next_page_token: Option<String>,
}

/// What orders entries: negated seconds and nanoseconds for the newest first, then the key.
type Position = (i128, String);

impl Listing {
    /// Filters, sorts and cuts. `key` orders entries and tells them apart.
    pub fn page(&self, items: Vec<Value>, key: impl Fn(&Value) -> String) -> Result<Page<Value>, Error> {
        self.page_by(items, |item| item, key)
    }

    /// The same for entries that carry something beside their document.
    pub fn page_by<T>(
        &self,
        items: Vec<T>,
        document: impl Fn(&T) -> &Value,
        key: impl Fn(&T) -> String,
    ) -> Result<Page<T>, Error> {
        let after = self.token.as_deref().map(read_token).transpose()?;
        let position = |item: &T| -> Position {
            let created = match self.newest_first {
                true => -nanoseconds(document(item)),
                false => 0,
            };
            (created, key(item))
        };
        let fits = |item: &T| self.filter.as_ref().is_none_or(|filter| filter.matches(document(item)));
        let mut kept: Vec<(Position, T)> = items
            .into_iter()
            .filter(fits)
            .map(|item| (position(&item), item))
            .filter(|(position, _)| after.as_ref().is_none_or(|after| position > after))
            .collect();
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = kept.len() > self.size;
        kept.truncate(self.size);
        let next_page_token = kept.last().filter(|_| more).map(|(position, _)| token(position));
        Ok(Page { items: kept.into_iter().map(|(_, item)| item).collect(), next_page_token })
    }
}

fn nanoseconds(document: &Value) -> i128 {
    let created = document["creationTimestamp"].as_str().and_then(time::parse);
    created.unwrap_or(Timestamp::UNIX_EPOCH).as_nanosecond()
}

fn token((created, key): &Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{created} {key}"))
}

fn read_token(token: &str) -> Result<Position, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (created, key) = text.split_once(' ')?;
        Some((created.parse().ok()?, key.to_owned()))
    };
    read().ok_or_else(|| Error::invalid("pageToken", token, "The page token is not one that was handed out."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name })).collect()
    }

    fn key(item: &Value) -> String {
        item["name"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_list_that_changes_between_pages_loses_and_repeats_nothing() {
        let first =
            Listing { size: 2, ..Listing::default() }.page(named(&["a", "c", "e", "g"]), key).unwrap();
        assert_eq!(first.items, named(&["a", "c"]));
        // "a" is gone, "b" and "d" are new.
        let second = Listing { size: 2, token: first.next_page_token, ..Listing::default() };
        let second = second.page(named(&["b", "c", "d", "e", "g"]), key).unwrap();
        assert_eq!(second.items, named(&["d", "e"]));
        let third = Listing { size: 2, token: second.next_page_token, ..Listing::default() };
        let third = third.page(named(&["g"]), key).unwrap();
        assert_eq!((third.items, third.next_page_token), (named(&["g"]), None));
    }

    #[test]
    fn newest_first() {
        let at = |name: &str, second: u8| json!({ "name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}.000-07:00") });
        let items = || vec![at("a", 1), at("b", 3), at("c", 2), at("d", 3)];
        let mut listing = Listing { size: 1, newest_first: true, ..Listing::default() };
        let mut order = String::new();
        loop {
            let page = listing.page(items(), key).unwrap();
            order.push_str(&key(&page.items[0]));
            match page.next_page_token {
                Some(token) => listing.token = Some(token),
                None => break,
            }
        }
        assert_eq!(order, "bdca");
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in ["x", "", "????", "YQ"] {
            let listing = Listing { token: Some(token.to_owned()), ..Listing::default() };
            assert!(listing.page(Vec::new(), key).is_err(), "{token}");
        }
    }
}
