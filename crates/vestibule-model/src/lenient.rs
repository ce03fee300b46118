//! Reading documents as forgivingly as Google's own JSON parser does.
//!
//! Protocol buffers' JSON mapping lets a 64-bit integer be a number or a string, a 32-bit one be a string, and any
//! member be `null`. Documents keep what the client sent, so typed reading has to put up with all of it.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Number, Value};

/// Lists and maps: `null` is the same as absent.
pub fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// 64-bit integers, which are strings in our structs as they are in Google's answers.
pub fn integer_text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    match Option::deserialize(d)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(D::Error::custom("expected an integer")),
    }
}

/// 32-bit integers and floating point numbers.
pub fn number<'de, D: Deserializer<'de>, T: Numeric>(d: D) -> Result<Option<T>, D::Error> {
    let number = match Option::deserialize(d)? {
        None => return Ok(None),
        Some(Value::Number(number)) => T::from_number(&number),
        Some(Value::String(text)) => text.parse().ok().and_then(|number| T::from_number(&number)),
        Some(_) => None,
    };
    number.map(Some).ok_or_else(|| D::Error::custom("expected a number"))
}

/// What [`number`] can read.
pub trait Numeric: Sized {
    fn from_number(number: &Number) -> Option<Self>;
}

impl Numeric for f64 {
    fn from_number(number: &Number) -> Option<Self> {
        number.as_f64()
    }
}

impl Numeric for i32 {
    fn from_number(number: &Number) -> Option<Self> {
        integer(number)?.try_into().ok()
    }
}

impl Numeric for u32 {
    fn from_number(number: &Number) -> Option<Self> {
        integer(number)?.try_into().ok()
    }
}

/// The whole number that a JSON number is; `3.0` is one.
pub fn integer(number: &Number) -> Option<i128> {
    if let Some(integer) = number.as_i64() {
        return Some(integer.into());
    }
    if let Some(integer) = number.as_u64() {
        return Some(integer.into());
    }
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() < 1e18).then_some(float as i128)
}

#[cfg(test)]
mod tests {
    use crate::compute::{BackendService, UrlMap};
    use serde_json::json;

    #[test]
    fn spellings_of_numbers() {
        for timeout in [json!(30), json!("30"), json!(30.0)] {
            let service: BackendService = serde_json::from_value(json!({ "timeoutSec": timeout })).unwrap();
            assert_eq!(service.timeout_sec, Some(30));
        }
        for id in [json!(42), json!("42")] {
            let map: UrlMap = serde_json::from_value(json!({ "id": id })).unwrap();
            assert_eq!(map.id.as_deref(), Some("42"));
        }
        assert!(serde_json::from_value::<BackendService>(json!({ "timeoutSec": 3.5 })).is_err());
        assert!(serde_json::from_value::<BackendService>(json!({ "timeoutSec": true })).is_err());
    }

    #[test]
    fn null_is_absent() {
        let map: UrlMap =
            serde_json::from_value(json!({ "pathMatchers": null, "name": null, "id": null })).unwrap();
        assert_eq!(map, UrlMap::default());
    }

    #[test]
    fn typed_documents_keep_their_names() {
        let wire =
            json!({ "IPAddress": "10.0.0.1", "IPProtocol": "TCP", "portRange": "80-80", "ports": ["80"] });
        let rule: crate::compute::ForwardingRule = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(rule.ip_address.as_deref(), Some("10.0.0.1"));
        assert_eq!(serde_json::to_value(&rule).unwrap(), wire);
    }
}
