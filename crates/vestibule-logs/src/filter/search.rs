//! `SEARCH`: whole words, in any order, in any case.
//!
//! Text is cut into tokens at everything that is neither letter nor digit. A word of the query must be a token of the
//! text; a phrase in backquotes must be tokens that follow one another.

use serde_json::Value;
use std::collections::HashSet;

/// The words and phrases of a query.
#[derive(Debug, Clone)]
pub(crate) struct TokenSearch {
    words: HashSet<String>,
    phrases: Vec<Vec<String>>,
}

impl TokenSearch {
    /// Reads a query; `None` when there is nothing to search for, or a backquote is not closed.
    pub(crate) fn parse(query: &str) -> Option<TokenSearch> {
        let mut search = TokenSearch { words: HashSet::new(), phrases: Vec::new() };
        for (index, piece) in query.split('`').enumerate() {
            let found: Vec<String> = tokens(piece).collect();
            if index % 2 == 0 {
                search.words.extend(found);
            } else if !found.is_empty() {
                search.phrases.push(found);
            }
        }
        let closed = query.matches('`').count().is_multiple_of(2);
        (closed && !(search.words.is_empty() && search.phrases.is_empty())).then_some(search)
    }

    /// Whether every word and phrase is found somewhere in the values.
    pub(crate) fn matches(&self, values: &[&Value]) -> bool {
        let mut missing: HashSet<&str> = self.words.iter().map(String::as_str).collect();
        let mut phrases: Vec<&Vec<String>> = self.phrases.iter().collect();
        for value in values {
            each_text(value, &mut |text| {
                for token in tokens(text) {
                    missing.remove(token.as_str());
                }
                if !phrases.is_empty() {
                    let found: Vec<String> = tokens(text).collect();
                    phrases.retain(|phrase| !found.windows(phrase.len()).any(|w| w == phrase.as_slice()));
                }
            });
        }
        missing.is_empty() && phrases.is_empty()
    }
}

fn tokens(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|t| !t.is_empty()).map(str::to_lowercase)
}

fn each_text(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Number(number) => take(&number.to_string()),
        Value::Bool(b) => take(if *b { "true" } else { "false" }),
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| each_text(item, take)),
        Value::Object(map) => map.values().for_each(|item| each_text(item, take)),
    }
}
