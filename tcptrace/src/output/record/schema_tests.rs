//! docs/records.schema.json and docs/records.md, made from the shapes.

use std::{collections::BTreeMap, fmt::Write as _};

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value};
use tcptrace_common::TcpState;

use super::shapes::Record;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/records.schema.json");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/records.md");
/// The records in the golden output that the examples are taken from.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/looks/json.txt");

/// The schema of a field with a state.
pub(super) fn state(_: &mut SchemaGenerator) -> Schema {
    let names = TcpState::ALL.map(TcpState::name);
    json_schema!({ "type": "string", "enum": names })
}

fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.inline_subschemas = true;
        });
    let mut schema = settings.into_generator().into_root_schema_for::<Record>();
    schema.insert("title".to_owned(), "A record of tcptrace".into());
    let mut schema = schema.to_value();
    unwrap_lines(&mut schema);
    schema
}

/// Undoes the line breaks of the doc comments.
fn unwrap_lines(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        for (name, value) in object {
            if let Value::String(text) = value
                && name == "description"
            {
                *text = text.replace('\n', " ");
            } else {
                unwrap_lines(value);
            }
        }
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(unwrap_lines);
    }
}

/// Compares a page with what the code says, or rewrites it.
fn must_be(path: &str, text: &str) {
    if std::env::var_os("TCPTRACE_BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == text, "{path}: TCPTRACE_BLESS=1 rewrites it");
}

#[test]
fn the_schema_is_of_this_code() {
    let text = serde_json::to_string_pretty(&schema()).unwrap();
    must_be(SCHEMA, &format!("{text}\n"));
}

/// A field of records.
struct Field {
    kind: String,
    is_required: bool,
    help: String,
    /// The values of an enum, each with what it means.
    values: Vec<(String, String)>,
}

/// Returns the fields of an object's schema, by name.
fn fields(object: &Value) -> BTreeMap<String, Field> {
    let required = object["required"].as_array().cloned().unwrap_or_default();
    let empty = Map::new();
    let properties = object["properties"].as_object().unwrap_or(&empty);
    let field = |(name, schema): (&String, &Value)| {
        let text = schema["description"].as_str().unwrap_or_default();
        let field = Field {
            kind: kind(name, schema),
            is_required: required.contains(&Value::from(name.as_str())),
            help: text.replace('|', "\\|"),
            values: values(schema),
        };
        (name.clone(), field)
    };
    properties.iter().map(field).collect()
}

/// Returns the type, with its unit or format.
fn kind(name: &str, schema: &Value) -> String {
    let types = &schema["type"];
    let kind = types.get(0).unwrap_or(types).as_str().unwrap_or("string");
    match (kind, schema["format"].as_str()) {
        (_, Some("date-time")) => "time (RFC 3339)".to_owned(),
        ("integer", _) if name.ends_with("_us") => "integer, µs".to_owned(),
        ("integer", _) if name.starts_with("bytes_") => "integer, bytes".to_owned(),
        _ => kind.to_owned(),
    }
}

/// Returns the values of an enum.
fn values(schema: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for list in ["enum", "oneOf", "anyOf"] {
        for value in schema[list].as_array().into_iter().flatten() {
            if let Some(name) = value.as_str() {
                found.push((name.to_owned(), String::new()));
            } else if let Some(name) = value["const"].as_str() {
                let help = value["description"].as_str().unwrap_or_default();
                found.push((name.to_owned(), help.to_owned()));
            } else {
                found.extend(values(value));
            }
        }
    }
    found
}

fn table(fields: &BTreeMap<String, Field>, out: &mut String) {
    out.push_str("\n| field | type | present | meaning |\n|---|---|---|---|\n");
    for (name, field) in fields {
        let present = match (&**name, field.is_required) {
            ("pid_gone", _) => "if true",
            (_, true) => "always",
            (_, false) => "if known",
        };
        let Field { kind, help, .. } = field;
        writeln!(out, "| `{name}` | {kind} | {present} | {help} |").unwrap();
    }
}

fn page() -> String {
    let schema = schema();
    let mut page = "# Records\n\n\
        `--format json` prints one record per line. An absent field is not known. Durations end in `_us` and are integers.\n\
        The [JSON Schema](records.schema.json) has the same fields; [Compatibility](compatibility.md) says what may change.\n"
        .to_owned();
    let common = fields(&schema);
    page.push_str("\n## Every record\n\nThe field `type` names the kind of record.\n");
    table(&common, &mut page);
    let mut enums: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let variants = schema["oneOf"].as_array().unwrap();
    let of_variants: Vec<_> = variants
        .iter()
        .map(|variant| (variant, fields(variant)))
        .collect();
    // The fields of a connection or listener are in all records about one.
    let mut shared = fields(&variants[0]);
    shared.retain(|name, _| {
        name != "type"
            && of_variants[..4]
                .iter()
                .all(|(_, fields)| fields.contains_key(name))
    });
    page.push_str("\n## Every record about a connection or listener\n");
    table(&shared, &mut page);
    for (variant, mut fields) in of_variants {
        let name = variant["properties"]["type"]["const"].as_str().unwrap();
        let help = variant["description"].as_str().unwrap_or_default();
        writeln!(page, "\n## {name}\n\n{help}").unwrap();
        fields.retain(|name, _| name != "type" && !shared.contains_key(name));
        table(&fields, &mut page);
        for (name, field) in fields {
            enums.entry(name).or_insert(field.values);
        }
        let examples = std::fs::read_to_string(EXAMPLES).unwrap();
        let tag = format!("\"type\":\"{name}\"");
        if let Some(example) = examples.lines().find(|line| line.contains(&tag)) {
            writeln!(page, "\n```json\n{example}\n```").unwrap();
        }
    }
    for (name, field) in shared {
        enums.insert(name, field.values);
    }
    enums.retain(|_, values| values.iter().any(|(_, help)| !help.is_empty()));
    page.push_str("\n## Values\n");
    for (name, values) in enums {
        writeln!(page, "\n`{name}`:\n\n| value | meaning |\n|---|---|").unwrap();
        for (value, help) in values {
            writeln!(page, "| `{value}` | {} |", help.replace('|', "\\|")).unwrap();
        }
    }
    page
}

#[test]
fn the_page_is_of_this_code() {
    must_be(PAGE, &page());
}

#[test]
fn every_field_is_explained() {
    let schema = schema();
    let mut objects = vec![&schema];
    objects.extend(schema["oneOf"].as_array().unwrap());
    for object in objects {
        for (name, field) in fields(object) {
            assert!(name == "type" || !field.help.is_empty(), "{name}");
        }
    }
}
