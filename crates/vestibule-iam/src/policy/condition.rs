//! Conditions of bindings: the part of CEL that IAM conditions are written in.
//!
//! Understood are `&&`, `||`, `!`, parentheses, comparisons, string and timestamp literals, `request.time`,
//! `resource.name`, `resource.type`, `resource.service`, and the string functions `startsWith`, `endsWith`,
//! `contains`. Anything else (date parts, `extract`, tags, levels) is kept and shown as written, and the binding then
//! grants nothing: a condition that nobody can decide must not open a door. [`Condition::unsupported`] tells why.

mod parse;

use jiff::Timestamp;
use ring::digest;
use serde_json::{Map, Value};

use parse::{Attribute, Comparison, Expression, Literal, StringFunction};

/// A condition.
#[derive(Debug, Clone)]
pub struct Condition {
    title: Option<String>,
    description: Option<String>,
    location: Option<String>,
    source: String,
    /// `Err` with the reason when the expression is beyond us.
    expression: Result<Expression, String>,
}

/// Conditions are equal when they say the same in the same words.
impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        (&self.title, &self.description, &self.location, &self.source)
            == (&other.title, &other.description, &other.location, &other.source)
    }
}

/// The circumstances of a request, as far as conditions can ask about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// `request.time`.
    pub time: Timestamp,
    /// `resource.name`, such as `projects/P/locations/L/services/S`. Empty if unknown: such an attribute decides
    /// nothing.
    pub resource_name: String,
    /// `resource.type`, such as `run.googleapis.com/Service`.
    pub resource_type: String,
    /// `resource.service`, such as `run.googleapis.com`.
    pub resource_service: String,
}

impl Context {
    /// Now, about a resource without a name.
    pub fn now() -> Context {
        Context {
            time: Timestamp::now(),
            resource_name: String::new(),
            resource_type: String::new(),
            resource_service: String::new(),
        }
    }

    /// Now, about a Cloud Run service by its relative name.
    pub fn run_service(name: impl Into<String>) -> Context {
        Context {
            resource_name: name.into(),
            resource_type: "run.googleapis.com/Service".to_owned(),
            resource_service: "run.googleapis.com".to_owned(),
            ..Context::now()
        }
    }

    /// Now, about a Cloud Run job by its relative name.
    pub fn run_job(name: impl Into<String>) -> Context {
        Context { resource_type: "run.googleapis.com/Job".to_owned(), ..Context::run_service(name) }
    }
}

impl Condition {
    /// Reads `{"title", "description", "expression"}`. The error completes a sentence.
    pub fn from_json(condition: &Value) -> Result<Condition, String> {
        let text = |name: &str| condition.get(name).and_then(Value::as_str).map(str::to_owned);
        let source = text("expression").filter(|source| !source.trim().is_empty());
        let source = source.ok_or("it has no expression")?;
        Ok(Condition {
            title: text("title"),
            description: text("description"),
            location: text("location"),
            expression: parse::parse(&source),
            source,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut out = Map::new();
        let parts =
            [("title", &self.title), ("description", &self.description), ("location", &self.location)];
        for (name, value) in parts {
            if let Some(value) = value {
                out.insert(name.to_owned(), value.as_str().into());
            }
        }
        out.insert("expression".to_owned(), self.source.as_str().into());
        Value::Object(out)
    }

    /// Why the condition can never hold here, if so.
    pub fn unsupported(&self) -> Option<&str> {
        self.expression.as_ref().err().map(String::as_str)
    }

    /// Whether the condition holds.
    pub fn holds(&self, context: &Context) -> bool {
        match &self.expression {
            Ok(expression) => evaluate(expression, context) == Some(true),
            Err(_) => false,
        }
    }

    /// A name for the condition in policies shown without it.
    pub(super) fn short_hash(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.to_json().to_string().as_bytes());
        hash.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// CEL's logic of three values: `None` is an error, which `&&` and `||` swallow where the other side decides.
fn evaluate(expression: &Expression, context: &Context) -> Option<bool> {
    match expression {
        Expression::Constant(value) => Some(*value),
        Expression::Not(inner) => evaluate(inner, context).map(|value| !value),
        Expression::And(parts) => decide(parts, context, false),
        Expression::Or(parts) => decide(parts, context, true),
        Expression::Compare(left, comparison, right) => {
            compare(&literal(left, context)?, *comparison, &literal(right, context)?)
        }
        Expression::Function(attribute, function, argument) => {
            let Literal::Text(text) = literal(&Literal::Attribute(*attribute), context)? else { return None };
            Some(match function {
                StringFunction::StartsWith => text.starts_with(argument.as_str()),
                StringFunction::EndsWith => text.ends_with(argument.as_str()),
                StringFunction::Contains => text.contains(argument.as_str()),
            })
        }
    }
}

/// `decisive` settles the whole; otherwise any error leaves it open.
fn decide(parts: &[Expression], context: &Context, decisive: bool) -> Option<bool> {
    let mut open = false;
    for part in parts {
        match evaluate(part, context) {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!decisive)
}

fn literal(value: &Literal, context: &Context) -> Option<Literal> {
    let text = |text: &str| (!text.is_empty()).then(|| Literal::Text(text.to_owned()));
    match value {
        Literal::Attribute(Attribute::RequestTime) => Some(Literal::Time(context.time)),
        Literal::Attribute(Attribute::ResourceName) => text(&context.resource_name),
        Literal::Attribute(Attribute::ResourceType) => text(&context.resource_type),
        Literal::Attribute(Attribute::ResourceService) => text(&context.resource_service),
        other => Some(other.clone()),
    }
}

fn compare(left: &Literal, comparison: Comparison, right: &Literal) -> Option<bool> {
    let order = match (left, right) {
        (Literal::Text(left), Literal::Text(right)) => left.cmp(right),
        (Literal::Time(left), Literal::Time(right)) => left.cmp(right),
        _ => return None,
    };
    Some(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(expression: &str) -> Condition {
        Condition::from_json(&json!({ "title": "t", "expression": expression })).unwrap()
    }

    fn context() -> Context {
        Context {
            time: "2026-06-01T12:00:00Z".parse().unwrap(),
            ..Context::run_service("projects/demo/locations/us-central1/services/svc")
        }
    }

    #[test]
    fn expressions_are_decided() {
        let table = [
            ("true", true),
            ("false || true", true),
            ("!(true && false)", true),
            (r#"request.time < timestamp("2027-01-01T00:00:00Z")"#, true),
            (r#"request.time > timestamp('2027-01-01T00:00:00Z')"#, false),
            (r#"request.time >= timestamp("2026-06-01T14:00:00+02:00")"#, true),
            (r#"resource.name.startsWith("projects/demo/")"#, true),
            (r#"resource.name.endsWith("/services/other")"#, false),
            (
                r#"resource.name.contains("us-central1") && resource.type == "run.googleapis.com/Service""#,
                true,
            ),
            (r#"resource.service != 'run.googleapis.com'"#, false),
            (r#"timestamp("2027-01-01T00:00:00Z") > request.time"#, true),
            (r#"resource.name == "a" || resource.name.contains("svc") && true"#, true),
        ];
        for (expression, expected) in table {
            let condition = condition(expression);
            assert_eq!(condition.unsupported(), None, "{expression}");
            assert_eq!(condition.holds(&context()), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_not_understood_never_holds() {
        for expression in [
            r#"request.time.getHours("Europe/Berlin") < 17"#,
            r#"resource.matchTag("1/env", "prod")"#,
            "true &&",
            "(true",
            "true true",
            r#"resource.name == "unterminated"#,
            r#"!resource.name.extract("a{x}b") == """#,
            r#"timestamp("no time") < request.time"#,
            "1 == 1",
            "",
        ] {
            let Ok(condition) = Condition::from_json(&json!({ "expression": expression })) else {
                assert_eq!(expression, "");
                continue;
            };
            assert!(condition.unsupported().is_some(), "{expression}");
            assert!(!condition.holds(&context()), "{expression}");
        }
    }

    #[test]
    fn an_unknown_resource_decides_nothing() {
        let bare = Context { resource_name: String::new(), ..context() };
        assert!(!condition(r#"resource.name == "x""#).holds(&bare));
        assert!(!condition(r#"resource.name != "x""#).holds(&bare), "an error is not a no that ! could turn");
        assert!(!condition(r#"!(resource.name == "x")"#).holds(&bare));
        assert!(condition(r#"resource.name == "x" || true"#).holds(&bare), "the other side decides");
        assert!(!condition(r#"request.time == "x""#).holds(&context()), "types differ");
    }
}
