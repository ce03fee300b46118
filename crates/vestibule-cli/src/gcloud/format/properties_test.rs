//! Properties of the parsers and printers, over inputs nobody thought of.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Filter, Format, Names, Verdict, render, yaml_document};

/// A fold behind an escape, with a blank that follows.
#[test]
fn a_blank_behind_a_fold_stays() {
    let value = json!({"a": format!("{}\t x", "\tabcdefg".repeat(12))});
    let back: Value = serde_yaml_ng::from_str(&yaml_document(&value)).unwrap();
    assert_eq!(back, value);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~éü✔\t\n]{0,100}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{0,12}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml_reads_back(value in prop::collection::btree_map("[a-z]{1,8}", any_json(), 1..5)) {
        let value = json!(value);
        let text = yaml_document(&value);
        let back: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        prop_assert_eq!(back, value, "{}", text);
    }

    #[test]
    fn formats_never_panic(expression in "[a-z(),.:\\[\\]=\"' ]{0,40}", value in any_json()) {
        let _ = Format::parse(&expression);
        for start in ["value(", "table(", "json(", "csv[no-heading]("] {
            if let Ok(format) = Format::parse(&format!("{start}{expression})")) {
                render(&format, std::slice::from_ref(&value), false, &Names::default());
            }
        }
    }

    #[test]
    fn filters_never_panic(expression in "[a-z0-9(),.:=<>~!* \"'-]{0,40}|[a-c]{1,3}[:=<>~]{1,2}[a-z*]{0,4}( (AND|OR|NOT) [a-c]=[a-c])?", value in any_json()) {
        if let Ok(filter) = Filter::parse(&expression) {
            filter.matches(&value, &Names::default(), &mut Verdict::default());
        }
    }

    #[test]
    fn json_reads_back(value in any_json()) {
        let format = Format::parse("json").unwrap();
        let text = render(&format, std::slice::from_ref(&value), true, &Names::default());
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
