//! From a format and resources to text.

use std::cmp::Ordering;

use serde_json::Value;

use super::expression::{Column, Format, column};
use super::key::{Key, Step, lookup, place};
use super::lexer::Lexer;
use super::transform::apply;
use super::{ExpressionError, python, table, text, yaml};

/// Names that are not in the resources: a command's own columns (`ready`), and the headings of its table.
///
/// gcloud lets `--filter`, `--sort-by` and projections use a heading in place of its key.
#[derive(Default, Clone)]
pub struct Names {
    columns: Vec<Column>,
    computed: Option<fn(&Value, &str) -> Option<Value>>,
}

impl Names {
    /// `table` is the command's default format.
    pub fn new(table: &Format, computed: Option<fn(&Value, &str) -> Option<Value>>) -> Names {
        Names { columns: table.columns.clone(), computed }
    }

    /// What a key finds, after its transforms.
    pub fn find(&self, resource: &Value, wanted: &Column) -> Option<Value> {
        apply(&wanted.transforms, self.lookup(resource, &wanted.key), resource)
    }

    fn lookup(&self, resource: &Value, key: &Key) -> Option<Value> {
        if let Some(found) = lookup(resource, key) {
            return Some(found);
        }
        let [Step::Name(name)] = key.as_slice() else { return None };
        if let Some(found) = self.computed.and_then(|computed| computed(resource, name)) {
            return Some(found);
        }
        let same = |column: &&Column| column.heading().replace(' ', "_").eq_ignore_ascii_case(name);
        let known = self.columns.iter().find(same)?;
        // A heading stands for its key, not for another heading.
        if known.key == *key {
            return None;
        }
        let bare = Names { columns: Vec::new(), computed: self.computed };
        bare.find(resource, known)
    }

    /// Sorts by `--sort-by`: keys separated by commas, `~` in front for the other way round.
    pub fn sort(&self, resources: &mut [Value], keys: &[String]) -> Result<(), ExpressionError> {
        for key in keys.iter().rev() {
            let (reverse, plain) = key.strip_prefix('~').map_or((false, key.as_str()), |rest| (true, rest));
            let wanted = column(&mut Lexer::new(plain))?;
            self.sort_by(resources, &wanted, reverse);
        }
        Ok(())
    }

    fn sort_by(&self, resources: &mut [Value], wanted: &Column, reverse: bool) {
        resources.sort_by(|a, b| {
            let order = compare(self.find(a, wanted).as_ref(), self.find(b, wanted).as_ref());
            if reverse { order.reverse() } else { order }
        });
    }
}

/// Numbers by size, everything else by its text; nothing comes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(a), Some(b)) => python::text(a).cmp(&python::text(b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Writes resources. `single` is a resource that was described, as opposed to a list of them.
pub fn render(format: &Format, resources: &[Value], single: bool, names: &Names) -> String {
    let mut resources: Vec<Value> = resources.to_vec();
    let mut sorts: Vec<&Column> = format.columns.iter().filter(|c| c.sort.is_some()).collect();
    sorts.sort_by_key(|c| std::cmp::Reverse(c.sort));
    for wanted in sorts {
        names.sort_by(&mut resources, wanted, wanted.reverse);
    }
    let found = || -> Vec<Vec<Option<Value>>> {
        resources.iter().map(|r| format.columns.iter().map(|c| names.find(r, c)).collect()).collect()
    };
    match format.name.as_str() {
        "none" | "disable" => String::new(),
        "table" => {
            let cell = |value: Option<Value>| {
                value.filter(|v| !v.is_null()).map_or(String::new(), |v| python::text(&v))
            };
            let rows: Vec<Vec<String>> =
                found().into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
            table::table(format, &format.columns, &rows)
        }
        "value" | "get" => text::value(format, &found()),
        "csv" => text::csv(format, &format.columns, &found()),
        "list" => list(format, &resources, names),
        "text" | "flattened" => text::flattened(format, &project_all(format, &resources, names)),
        "json" => {
            let projected = project_all(format, &resources, names);
            match (single, projected.as_slice()) {
                (true, [one]) => text::json(one, 0) + "\n",
                _ => text::json(&Value::Array(projected), 0) + "\n",
            }
        }
        _ => {
            let separator = if single { "" } else { "---\n" };
            let documents = project_all(format, &resources, names);
            documents.iter().map(|value| format!("{separator}{}", yaml::document(value))).collect()
        }
    }
}

fn list(format: &Format, resources: &[Value], names: &Names) -> String {
    let projected = !format.columns.is_empty();
    let row = |resource: &Value| -> Vec<(String, Option<Value>)> {
        match resource {
            _ if projected => format.columns.iter().map(|c| (c.heading(), names.find(resource, c))).collect(),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries
            }
            other => vec![(String::new(), Some(other.clone()))],
        }
    };
    let rows: Vec<_> = resources.iter().map(row).collect();
    text::list(format, &rows, !projected)
}

/// The parts of the resources that a projection names, in their own shape; everything without one.
fn project_all(format: &Format, resources: &[Value], names: &Names) -> Vec<Value> {
    if format.columns.is_empty() {
        return resources.to_vec();
    }
    let one = |resource: &Value| {
        let mut out = Value::Null;
        for wanted in &format.columns {
            // What is not there stays away, whatever a transform would make of it.
            let there = names.lookup(resource, &wanted.key).is_some();
            if let Some(value) = names.find(resource, wanted).filter(|v| there && !v.is_null()) {
                place(&mut out, &wanted.key, value);
            }
        }
        out
    };
    resources.iter().map(one).collect()
}
