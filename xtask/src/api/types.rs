//! Typed structs for the resource documents.
//!
//! Every field is optional, because a document holds what the client sent; enums are strings, because a newer client
//! may send a value that this build does not know. Only schemas reachable from the selection's roots get a struct:
//! serde's derives are what costs compile time.

use super::naming::{field, pascal, serde_camel};
use super::selection::Selection;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

type Failure = Box<dyn std::error::Error>;

pub fn generate(selection: &Selection, document: &Value) -> Result<String, Failure> {
    let schemas = document["schemas"].as_object().ok_or("no schemas")?;
    let mut generator = Generator { schemas, names: BTreeMap::new(), structs: BTreeMap::new() };
    let reached = generator.reached(selection.types)?;
    generator.name_all(selection, &reached)?;
    for schema in &reached {
        let name = generator.names[schema].clone();
        generator.add_struct(&name, &schemas[schema])?;
    }
    let boxed = generator.cycles();
    let mut out = format!(
        "//! Wire types of {} {}: see Google's reference for what the fields mean.\n\n\
         use serde::{{Deserialize, Serialize}};\nuse std::collections::BTreeMap;\n",
        document["name"].as_str().unwrap_or_default(),
        document["version"].as_str().unwrap_or_default(),
    );
    if !generator.structs.values().flatten().any(|f| f.kind.text().contains("BTreeMap")) {
        out = out.replace("use std::collections::BTreeMap;\n", "");
    }
    for (name, fields) in &generator.structs {
        out.push_str(&render(name, fields, &boxed));
    }
    Ok(out)
}

struct Generator<'a> {
    schemas: &'a Map<String, Value>,
    /// Schema name → struct name.
    names: BTreeMap<String, String>,
    structs: BTreeMap<String, Vec<Field>>,
}

struct Field {
    wire: String,
    kind: Kind,
}

enum Kind {
    /// A leaf in an `Option`, with the function that reads it if serde's own way is too strict.
    Plain { rust: &'static str, with: Option<&'static str> },
    /// A struct in an `Option`.
    Struct(String),
    /// A `Vec` or `BTreeMap`: the text of its type.
    Collection(String),
}

impl Kind {
    /// The type's text outside of any `Option`.
    fn text(&self) -> &str {
        match self {
            Kind::Plain { rust, .. } => rust,
            Kind::Struct(name) => name,
            Kind::Collection(text) => text,
        }
    }
}

impl Generator<'_> {
    fn reached(&self, roots: &[&str]) -> Result<BTreeSet<String>, Failure> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
        while let Some(name) = open.pop() {
            let schema = self.schemas.get(&name).ok_or_else(|| format!("no schema {name}"))?;
            if reached.insert(name) {
                references(schema, &mut open);
            }
        }
        Ok(reached)
    }

    /// Names every struct, without the prefixes to strip unless that would make two alike.
    fn name_all(&mut self, selection: &Selection, reached: &BTreeSet<String>) -> Result<(), Failure> {
        let mut taken = BTreeSet::new();
        for schema in reached {
            let short =
                selection.strip.iter().find_map(|prefix| schema.strip_prefix(prefix)).unwrap_or(schema);
            let name = match short {
                // Names of the prelude would be shadowed for the whole module.
                "Option" | "Vec" | "Box" | "String" | "Result" => schema,
                _ if reached.contains(short) && short != schema => schema,
                _ => short,
            };
            if !taken.insert(name.to_owned()) {
                return Err(format!("two structs {name}").into());
            }
            self.names.insert(schema.clone(), name.to_owned());
        }
        Ok(())
    }

    fn add_struct(&mut self, name: &str, schema: &Value) -> Result<(), Failure> {
        let mut fields = Vec::new();
        for (wire, property) in schema["properties"].as_object().into_iter().flatten() {
            let kind = self.kind(&format!("{name}{}", pascal(wire)), property)?;
            fields.push(Field { wire: wire.clone(), kind });
        }
        self.structs.insert(name.to_owned(), fields);
        Ok(())
    }

    fn kind(&mut self, inline: &str, property: &Value) -> Result<Kind, Failure> {
        if let Some(reference) = property["$ref"].as_str() {
            let target = &self.schemas[reference];
            if target["properties"].is_object() {
                return Ok(Kind::Struct(self.names[reference].clone()));
            }
            return Ok(Kind::Plain { rust: "serde_json::Value", with: None });
        }
        let plain = |rust, with| Ok(Kind::Plain { rust, with });
        let text = |key: &str| property[key].as_str().unwrap_or_default();
        match (text("type"), text("format")) {
            ("string", "int64" | "uint64") => plain("String", Some("integer_text")),
            ("string", _) => plain("String", None),
            ("boolean", _) => plain("bool", None),
            ("integer", "uint32") => plain("u32", Some("number")),
            ("integer", _) => plain("i32", Some("number")),
            ("number", _) => plain("f64", Some("number")),
            ("array", _) => {
                let item = self.kind(&format!("{inline}Item"), &property["items"])?;
                Ok(Kind::Collection(format!("Vec<{}>", item.text())))
            }
            ("object", _) if property["properties"].is_object() => {
                self.add_struct(inline, property)?;
                Ok(Kind::Struct(inline.to_owned()))
            }
            ("object", _) if property["additionalProperties"].is_object() => {
                let item = self.kind(&format!("{inline}Value"), &property["additionalProperties"])?;
                Ok(Kind::Collection(format!("BTreeMap<String, {}>", item.text())))
            }
            ("any" | "object", _) => plain("serde_json::Value", None),
            (other, _) => Err(format!("unknown type {other:?}").into()),
        }
    }

    /// Fields (struct, wire name) that must be boxed: those through which a struct would contain itself.
    fn cycles(&self) -> BTreeSet<(String, String)> {
        let mut boxed = BTreeSet::new();
        for (name, fields) in &self.structs {
            for field in fields {
                if let Kind::Struct(target) = &field.kind
                    && self.contains(target, name, &mut BTreeSet::new())
                {
                    boxed.insert((name.clone(), field.wire.clone()));
                }
            }
        }
        boxed
    }

    fn contains(&self, outer: &str, inner: &str, seen: &mut BTreeSet<String>) -> bool {
        outer == inner
            || seen.insert(outer.to_owned())
                && self.structs[outer].iter().any(|field| match &field.kind {
                    Kind::Struct(target) => self.contains(target, inner, seen),
                    _ => false,
                })
    }
}

fn references(node: &Value, out: &mut Vec<String>) {
    match node {
        Value::Object(members) => {
            out.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, out));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

fn render(name: &str, fields: &[Field], boxed: &BTreeSet<(String, String)>) -> String {
    let mut out = format!(
        "\n#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]\n\
         #[serde(rename_all = \"camelCase\", default)]\npub struct {name} {{\n"
    );
    for Field { wire, kind } in fields {
        let rust = field(wire);
        let mut attributes = Vec::new();
        if serde_camel(&rust) != *wire {
            attributes.push(format!("rename = {wire:?}"));
        }
        let text = match kind {
            Kind::Plain { rust, with } => {
                attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
                attributes.extend(with.map(|with| format!("deserialize_with = \"crate::lenient::{with}\"")));
                format!("Option<{rust}>")
            }
            Kind::Struct(target) => {
                attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
                match boxed.contains(&(name.to_owned(), wire.clone())) {
                    true => format!("Option<Box<{target}>>"),
                    false => format!("Option<{target}>"),
                }
            }
            Kind::Collection(text) => {
                let container = text.split('<').next().unwrap_or_default();
                attributes.push(format!("skip_serializing_if = \"{container}::is_empty\""));
                attributes.push("deserialize_with = \"crate::lenient::or_empty\"".to_owned());
                text.clone()
            }
        };
        out.push_str(&format!("    #[serde({})]\n    pub {rust}: {text},\n", attributes.join(", ")));
    }
    out.push_str("}\n");
    out
}
