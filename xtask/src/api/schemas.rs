//! The static tables that requests are validated against.

use super::naming::identifier;
use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

/// One `static` a schema, and the list of all in the order of their names.
pub fn generate(document: &Value) -> Result<String, Failure> {
    let schemas = document["schemas"].as_object().ok_or("no schemas")?;
    let mut statics = String::new();
    let mut list = String::new();
    for (name, schema) in schemas {
        let id = identifier(name);
        let fields = fields(schema)?.ok_or_else(|| format!("{name} is no object with fields"))?;
        statics
            .push_str(&format!("\npub static {id}: Schema = Schema::object(\"{name}\", &[\n{fields}]);\n"));
        list.push_str(&format!("    &{id},\n"));
    }
    Ok(format!(
        "#![allow(non_upper_case_globals, reason = \"named as Google names them\")]\n\n\
         use crate::schema::Schema;\n#[allow(unused_imports)]\nuse crate::schema::Type as T;\n\
         #[allow(unused_imports)]\nuse crate::schema::{{f, o}};\n\n\
         pub static SCHEMAS: &[&Schema] = &[\n{list}];\n{statics}"
    ))
}

/// The fields of an object in the order of their names, or `None` for what has no fixed fields.
fn fields(schema: &Value) -> Result<Option<String>, Failure> {
    let Some(properties) = schema["properties"].as_object() else {
        let closed = schema["type"] == "object" && schema.get("additionalProperties").is_none();
        return Ok(closed.then(String::new));
    };
    let mut out = String::new();
    for (name, property) in properties {
        let function = if property["readOnly"] == true { "o" } else { "f" };
        out.push_str(&format!("    {function}({name:?}, {}),\n", kind(property)?));
    }
    Ok(Some(out))
}

/// The expression for a property's or parameter's type.
pub fn kind(schema: &Value) -> Result<String, Failure> {
    if let Some(name) = schema["$ref"].as_str() {
        return Ok(format!("T::Object(&{})", identifier(name)));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return Ok(format!("T::Enum(&[{}])", values.join(", ")));
    }
    let text = |key: &str| schema[key].as_str().unwrap_or_default();
    Ok(match (text("type"), text("format")) {
        ("string", "int64") => "T::Int64".to_owned(),
        ("string", "uint64") => "T::Uint64".to_owned(),
        ("string", "byte") => "T::Bytes".to_owned(),
        ("string", "google-datetime") => "T::Timestamp".to_owned(),
        ("string", "google-duration") => "T::Duration".to_owned(),
        ("string", _) => "T::String".to_owned(),
        ("boolean", _) => "T::Bool".to_owned(),
        ("integer", "uint32") => "T::Uint32".to_owned(),
        ("integer", _) => "T::Int32".to_owned(),
        ("number", _) => "T::Double".to_owned(),
        ("any", _) => "T::Any".to_owned(),
        ("array", _) => format!("T::Array(&{})", kind(&schema["items"])?),
        ("object", _) if schema["properties"].is_object() => {
            format!("T::Inline(&[\n{}])", fields(schema)?.unwrap_or_default())
        }
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("T::Map(&{})", kind(&schema["additionalProperties"])?)
        }
        ("object", _) => "T::Map(&T::Any)".to_owned(),
        (other, _) => return Err(format!("unknown type {other:?}: {schema}").into()),
    })
}
